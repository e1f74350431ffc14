"""Is a witness a counterexample? Decided from the file, in exact rationals, without onnxruntime.

The outputs at the witness are enclosed exactly; a float32 execution lies within the network's own error bound of them. A witness is refused only
where no such execution violates the property.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.soundness.rational import margin
from benchmarks.strategies.problems import Instance, enclosed


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
    ranges, error = enclosed(asked.network, x)
    reached = margin(asked.unsafe, [(low - error, high + error) for low, high in ranges])[1]
    if reached >= 0:
        return ""
    outputs = ", ".join(f"Y_{j} = {float(low):.9g}" for j, (low, _) in enumerate(ranges))
    return f"every case has an atom that is missed by at least {float(-reached):.3g} ({outputs}; float32 loses at most {float(error):.2g})"
