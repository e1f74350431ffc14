"""Ask Marabou through its Python interface, as its manual does: MODEL PROPERTY SECONDS RESULTS_FILE [TIGHTENING]. Needs maraboupy, onnx, numpy.

Writes VNN-COMP's results file; the input is the solver's own, in doubles. Whatever goes wrong is a traceback and exit code 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

from maraboupy import Marabou

WORDS = {"sat": "sat", "unsat": "unsat", "TIMEOUT": "timeout", "UNKNOWN": "unknown"}


def main(model: str, prop: str, seconds: str, results: str) -> None:
    network = Marabou.read_onnx(model)
    options = Marabou.createOptions(timeoutInSeconds=max(1, round(float(seconds))), verbosity=0)
    status, values, _ = network.solve(options=options, verbose=False, propertyFilename=prop)
    text = WORDS[status]
    if text == "sat":
        inputs = [int(variable) for tensor in network.inputVars for variable in tensor.flatten()]
        text += "\n(" + "\n".join(f"(X_{i} {float(values[v])!r})" for i, v in enumerate(inputs)) + ")"
    Path(results).write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
