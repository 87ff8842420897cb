"""The three services: reader, flattener, s3writer.

Arrow reads where to take memory from when it is first imported, and every service imports this package before.
Its own choice, mimalloc, had both services a sixth more resident under backlog (`python -m bench.line --only cryptoflow`,
with and without ``ARROW_DEFAULT_MEMORY_POOL=mimalloc``).
"""

import os

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
