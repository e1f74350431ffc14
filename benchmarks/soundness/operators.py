"""ONNX operators on exact tensors, one rule each, from the standard: opset 7 on, inference only."""

from __future__ import annotations

from benchmarks.soundness.operators_linear import LINEAR
from benchmarks.soundness.operators_logic import LOGIC
from benchmarks.soundness.operators_nonlinear import NONLINEAR
from benchmarks.soundness.operators_places import PLACES
from benchmarks.soundness.operators_rare import RARE
from benchmarks.soundness.operators_recurrent import RECURRENT
from benchmarks.soundness.rule import Rule

RULES: dict[str, Rule] = {**LINEAR, **NONLINEAR, **LOGIC, **PLACES, **RARE, **RECURRENT}
