"""Forms of the transformer operators of com.microsoft, and a file of one operator: what engine and checker are both compared on."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.graph.graph_models import floats

Form = tuple[str, dict[str, tuple[int, ...]], list[str], dict[str, Any], dict[str, Any], int]  # operator, inputs, names, weights, attributes, outputs

SIZED = {"x": (2, 3, 8)}
SKIP = {"x": (2, 3, 8), "z": (2, 3, 8)}
NORM = {"g": floats(8), "b": floats(8, seed=1), "c": floats(8, seed=2)}
HEADS = {"x": (1, 3, 8), "k": (1, 5, 8), "v": (1, 5, 4)}
PACKED = {"w": 0.5 * floats(8, 24), "b": floats(24)}
FORMS: list[Form] = [
    ("Gelu", SIZED, ["x"], {}, {}, 1),
    ("BiasGelu", SIZED, ["x", "b"], NORM, {}, 1),
    ("FastGelu", SIZED, ["x"], {}, {}, 1),
    ("FastGelu", SIZED, ["x", "b"], NORM, {}, 1),
    ("QuickGelu", SIZED, ["x"], {}, {"alpha": 1.5}, 1),
    ("SkipLayerNormalization", SKIP, ["x", "z", "g", "b", "c"], NORM, {"epsilon": 0.01}, 1),
    ("SkipLayerNormalization", SKIP, ["x", "z", "g"], NORM, {}, 4),
    ("SkipSimplifiedLayerNormalization", SKIP, ["x", "z", "g", "c"], NORM, {"epsilon": 0.01}, 4),
    ("MultiHeadAttention", HEADS, ["x", "k", "v"], {}, {"num_heads": 2}, 1),
    ("MultiHeadAttention", HEADS, ["x", "k", "v", "w", "", "m"], {"w": floats(20), "m": floats(1, 2, 3, 5)}, {"num_heads": 2, "scale": 0.5}, 1),
    ("MultiHeadAttention", {"x": (1, 3, 8)}, ["x", "x", "x"], {}, {"num_heads": 2, "unidirectional": 1}, 1),
    ("Attention", SIZED, ["x", "w", "b"], PACKED, {"num_heads": 2}, 1),
    ("Attention", SIZED, ["x", "w", "b"], PACKED, {"num_heads": 4, "unidirectional": 1, "scale": 0.25}, 1),
]


def content(form: Form, domain: str = "com.microsoft") -> bytes:
    """The operator; of four outputs the first and the last."""
    kind, inputs, names, weights, attributes, count = form
    outputs = ["y"] if count == 1 else ["y", "", "", "t"]
    step = helper.make_node(kind, names, outputs, name=f"the_{kind}", domain=domain, **attributes)
    stored = [numpy_helper.from_array(np.asarray(weights[name]), name) for name in dict.fromkeys(names) if name in weights]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name]
    starts = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph([step], "g", starts, ends, stored), opset_imports=imports, ir_version=8).SerializeToString()
