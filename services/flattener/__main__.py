"""``python -m services.flattener``."""

from __future__ import annotations

import sys

from services.flattener.service import serve
from shared.service import main

if __name__ == "__main__":
    sys.exit(main("flattener", serve))
