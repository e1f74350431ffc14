"""Is a witness a counterexample? Decided from the file, in exact rationals, without onnxruntime.

The outputs at the witness are enclosed exactly; a float32 execution lies within the network's own error bound of them. A witness is refused only
where no such execution violates the property. Where the exact evaluation does not know an operator, onnx's reference implementation, which is a
float32 execution itself, takes its place, and the distance counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from benchmarks.soundness.property import Property
from benchmarks.soundness.rational import enclose
from benchmarks.soundness.rule import UnknownOperator
from benchmarks.strategies.problems import Instance, evaluate

Range = tuple[Fraction, Fraction]


def fault(asked: Instance, witness: Sequence[float]) -> str:
    """Why `witness`, flat [n], each rounded to float32, is no counterexample; "" if some float32 execution of the network violates there."""
    with np.errstate(over="ignore"):
        x = np.asarray(witness, np.float64).reshape(-1).astype(np.float32)
    if x.size != asked.box.lower.size:
        return f"it has {x.size} values, the network {asked.box.lower.size} inputs"
    if not np.isfinite(x).all():
        return "it is not finite"
    outside = np.flatnonzero((x < asked.box.lower) | (x > asked.box.upper))
    if outside.size:
        i = int(outside[0])
        return f"X_{i} = {x[i]} is outside of [{asked.box.lower[i]}, {asked.box.upper[i]}]"
    try:
        ranges, error = enclose(asked.network.model, [Fraction(v) for v in x.tolist()]), asked.network.error
    except UnknownOperator:
        ranges, error = [(Fraction(v), Fraction(v)) for v in evaluate(asked.network, x).tolist()], 2 * asked.network.error
    margin = most_violated(asked.unsafe, ranges, Fraction(error))
    if margin >= 0:
        return ""
    outputs = ", ".join(f"Y_{j} = {float(low):.9g}" for j, (low, _) in enumerate(ranges))
    return f"every case has an atom that is missed by at least {float(-margin):.3g} ({outputs}; float32 loses at most {error:.2g})"


def most_violated(unsafe: Property, ranges: Sequence[Range], error: Fraction = Fraction(0)) -> Fraction:
    """The largest violation margin that outputs in these ranges [m], each off by at most `error`, allow."""
    return max(
        min((Fraction(atom.bound) - sum((_least(Fraction(c), pair, error) for c, pair in zip(atom.coefficients, ranges, strict=True)), Fraction(0)))
            for atom in case)
        for case in unsafe.cases
    )  # fmt: skip


def _least(c: Fraction, pair: Range, error: Fraction) -> Fraction:
    """The least value of c y."""
    return min(c * pair[0], c * pair[1]) - abs(c) * error
