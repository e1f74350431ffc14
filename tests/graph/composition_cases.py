"""Cases of operators that are compositions: (operator, opset, shapes of inputs, weights, attributes), as in test_lowering.py."""

from __future__ import annotations

from typing import Any

from graph_models import floats

Case = tuple[str, int, dict[str, tuple[int, ...]], dict[str, Any], dict[str, Any]]

NORMALISATION: list[Case] = [
    ("GroupNormalization", 21, {"x": (2, 4, 3, 2)}, {"s": floats(4), "b": floats(4, seed=1)}, {"num_groups": 2, "epsilon": 0.01}),
    ("InstanceNormalization", 7, {"x": (2, 3, 4)}, {"s": floats(3), "b": floats(3, seed=1)}, {}),
    ("InstanceNormalization", 22, {"x": (1, 2, 3, 3)}, {"s": floats(2), "b": floats(2, seed=1)}, {"epsilon": 0.125}),
    ("LayerNormalization", 17, {"x": (2, 3, 4)}, {"s": floats(4), "b": floats(4, seed=1)}, {}),
    ("LayerNormalization", 17, {"x": (2, 3, 4)}, {"s": floats(3, 4)}, {"axis": 1, "epsilon": 0.01}),
    ("LogSoftmax", 7, {"x": (2, 3, 4)}, {}, {}),
    ("LogSoftmax", 11, {"x": (2, 3, 4)}, {}, {"axis": 2}),
    ("LogSoftmax", 13, {"x": (2, 3, 4)}, {}, {"axis": 1}),
    ("MeanVarianceNormalization", 9, {"x": (2, 3, 2, 2)}, {}, {}),
    ("MeanVarianceNormalization", 13, {"x": (2, 3, 4)}, {}, {"axes": [0, -1]}),
    ("RMSNormalization", 23, {"x": (2, 3, 4)}, {"s": floats(4)}, {}),
    ("RMSNormalization", 23, {"x": (2, 3, 4)}, {"s": floats(3, 4)}, {"axis": -2, "epsilon": 0.25}),
]
COMPOSITIONS = [*NORMALISATION]
