"""Every operator case of the onnx package against the engine and the checker.

    OMP_NUM_THREADS=1 python -m benchmarks.conformance [--operator NAME ...] [--samples 1000] [--out docs/operators.md]

Resumable per operator: without --operator those that have no rows yet are examined, with it these are examined again.
"""

from __future__ import annotations

import sys

from benchmarks.conformance.run import main

sys.exit(main(sys.argv[1:]))
