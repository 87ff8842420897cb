"""``python -m services.s3writer --config PATH``."""

import sys

from services.s3writer.service import serve
from shared.service import main

if __name__ == "__main__":
    sys.exit(main("s3writer", serve))
