"""The three services: reader, flattener, s3writer.

Arrow reads where to take memory from when it is first imported, and every service imports this package before.
Its own choice, mimalloc, keeps freed memory in more places and asks the kernel for fresh pages more often: up to a
quarter more resident memory under backlog (`python -m bench line`, with this variable set and not).
"""

import os

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
