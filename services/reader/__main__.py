"""``python -m services.reader [--config PATH] [--set KEY=VALUE]…``"""

import sys

from services.reader.service import serve
from shared.service import main

if __name__ == "__main__":
    sys.exit(main("reader", serve))
