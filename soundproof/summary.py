"""What `verify` tells people on standard error, after the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from verifier.result import Result

UNCHECKED = "unsat is UNCHECKED: no certificate was verified"


def summary(result: Result, verbosity: int) -> Iterator[str]:
    """Lines for standard error. An unchecked `unsat` ends in `UNCHECKED`, also when quiet."""
    if verbosity >= 0:
        yield result.statement
        yield from result.portfolio
        if result.reason is not None and result.bound is not None:
            yield f"best bound {result.bound:.6g} (positive would be a proof), {result.cases.open} of {result.cases.total} cases open"
        if result.witness.inside_exact_box is False:
            yield "the witness lies in the input box as float32 has it (ends rounded to the nearest), not in the box as written"
        if result.witness.float32_only:
            yield "only rounding violates: the exact value of the network at the witness satisfies the property"
        yield f"{result.nodes} nodes, {result.seconds.get('total', 0.0):.2f} s"
    if result.cases.vacuous:
        yield f"{result.cases.vacuous} of {result.cases.total} cases are vacuous (their input box is empty)"
    if result.verdict == "unsat" and result.assurance == "unchecked":
        yield UNCHECKED
