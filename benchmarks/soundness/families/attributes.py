"""Operator-attribute traps: a verifier that reads an attribute, a default or an input wrongly says the opposite of the truth.

Each trap (`benchmarks.soundness.traps`) has two files that differ in the reading only, and a property that is true of exactly one of them. The
misreadings are of the kinds that verifiers had (research/soundness.md 5.2, research/verifiers.md 3.3): pads in another order or ignored, divisors
of pools, axes counted from the wrong end, defaults of other frameworks, operands exchanged, an older or newer opset's meaning.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.soundness.families.attribute_shapes import SHAPES
from benchmarks.soundness.families.attribute_states import STATES
from benchmarks.soundness.families.attribute_values import VALUES
from benchmarks.soundness.families.attribute_windows import WINDOWS
from benchmarks.soundness.instance import Instance
from benchmarks.soundness.traps import Trap, instances_of

TRAPS: tuple[Trap, ...] = (*WINDOWS, *VALUES, *SHAPES, *STATES)


def instances(seed: int) -> Iterator[Instance]:
    """Three of each trap: both truths behind a linear map, one of them behind hinges."""
    return instances_of("attributes", TRAPS, seed)
