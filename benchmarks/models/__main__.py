"""Whole models, exported and measured.

    OMP_NUM_THREADS=1 python -m benchmarks.models [--model NAME ...]

Resumable: models that are in the table are not measured again unless they are named.
"""

from __future__ import annotations

import sys

from benchmarks.models.run import main

sys.exit(main(sys.argv[1:]))
