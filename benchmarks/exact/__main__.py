"""python -m benchmarks.exact"""

from __future__ import annotations

import sys

from benchmarks.exact.campaign import main

if __name__ == "__main__":
    sys.exit(main())
