"""Models that read from, or write to, places that depend on their input `p` (an index is `p` cut off), and values of `x` in between.

Each is (name, model, shape of x, shape of p, the least and the largest index)."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.graph.graph_models import floats, model, node

Case = tuple[str, bytes, tuple[int, ...], tuple[int, ...], int, int]

READS = [  # operator, attributes, shape of the data, of the index, size of what is indexed
    ("Gather", {"axis": 0}, (3, 2), (2,), 3), ("Gather", {"axis": 1}, (2, 3, 2), (2, 2), 3), ("Gather", {"axis": -1}, (2, 3), (), 3),
    ("GatherElements", {"axis": 1}, (2, 3), (2, 2), 3), ("GatherElements", {"axis": 0}, (3, 2), (1, 1), 3),
    ("GatherND", {}, (2, 2, 3), (3, 2), 2), ("GatherND", {"batch_dims": 1}, (2, 3, 2), (2, 1), 3), ("GatherND", {}, (4,), (1, 1), 4),
    ("Gather", {"axis": 0}, (1, 3), (2,), 1), ("GatherElements", {"axis": 1}, (2, 1), (2, 2), 1),
]  # fmt: skip
WRITES = [  # operator, attributes, shape of the data, of the index, of the updates, size of what is indexed
    ("ScatterElements", {"axis": 1}, (2, 3), (2, 1), (2, 1), 3), ("ScatterElements", {"axis": 0}, (3, 2), (1, 1), (1, 1), 3),
    ("ScatterElements", {"axis": 1, "reduction": "add"}, (2, 3), (2, 2), (2, 2), 3), ("ScatterND", {}, (3, 2), (1, 1), (1, 2), 3),
    ("ScatterND", {}, (2, 2, 2), (2,), (2,), 2), ("ScatterND", {"reduction": "add"}, (3, 2), (2, 2), (2,), 2),
]  # fmt: skip


def reads(constant: bool) -> list[Case]:
    """Of `x`, or of a constant and added to x."""
    found = []
    for kind, attributes, data, index, size in READS:
        cast = [node("Cast", ["p"], ["i"], to=7)]
        if constant:
            nodes = [*cast, node(kind, ["t", "i"], ["g"], **attributes), node("Add", ["g", "x"])]
            built = model(nodes, {"x": (1,), "p": index}, weights={"t": floats(*data)})
            found.append((f"{kind}-{data}-{index}-table", built, (1,), index, -size, size - 1))
        else:
            nodes = [*cast, node(kind, ["x", "i"], **attributes)]
            found.append((f"{kind}-{data}-{index}", model(nodes, {"x": data, "p": index}), data, index, -size, size - 1))
    return found


def writes(constant: str) -> list[Case]:
    """The updates are sums over x; `constant`: "data", "updates", "both" or "" says what is constant instead."""
    found = []
    for kind, attributes, data, index, updates, size in WRITES:
        cast, weights = [node("Cast", ["p"], ["i"], to=7)], {"t": floats(*data), "w": floats(*updates, seed=1)}
        nodes = [*cast]
        if constant in ("data", ""):
            nodes += [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Add", ["s", "w"], ["u"])]
        base, new = "t" if constant in ("data", "both") else "x", "w" if constant in ("updates", "both") else "u"
        nodes += [node(kind, [base, "i", new], ["z"], **attributes), node("Add", ["z", "x"])]
        built = model(nodes, {"x": data, "p": index}, weights=weights, opset=18)
        found.append((f"{kind}-{data}-{index}-{constant}", built, data, index, -size, size - 1))
    return found


def patched(size: int, width: int, opset: int = 17) -> Case:
    """An image of which a patch at two places is set to 0, in the nodes that torch.onnx.export writes for m[:, i : i + k, j : j + k] = 0."""
    ints: dict[str, Any] = {
        "ones": np.ones((1, size, size), np.float32), "width": np.array([width]), "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]),
        "row": np.arange(size), "column": np.arange(size), "down": np.array([-1, 1]), "minus": np.array(-1), "end": np.array([-1]),
        "first": np.zeros((1, 1, 1), np.int64), "nothing": np.zeros(0, np.int64),
    }  # fmt: skip
    nodes = [node("Cast", ["p"], ["i"], to=7), node("Split", ["i"], ["r", "c"], axis=0)]
    nodes += [node("Add", [name, "width"], [name + "_end"]) for name in "rc"]
    nodes += [node("Slice", ["ones", "r", "r_end", "one"], ["strip"]), node("Slice", ["strip", "c", "c_end", "two"], ["patch"])]
    zeros = helper.make_tensor("value", 1, [1], [0.0])
    nodes += [node("Shape", ["patch"], ["sizes"]), node("ConstantOfShape", ["sizes"], ["blank"], value=zeros)]
    nodes += [node("Slice", ["row", "r", "r_end", "zero"], ["rows"]), node("Slice", ["column", "c", "c_end", "zero"], ["columns"])]
    nodes += [node("Reshape", ["rows", "down"], ["down_rows"]), node("Add", ["first", "down_rows"], ["a"]), node("Add", ["a", "columns"], ["b"])]
    nodes += [node("Shape", ["b"], ["target"]), node("Shape", ["target"], ["rank"])]
    nodes += [node("ConstantOfShape", ["rank"], ["units"], value=helper.make_tensor("value", 7, [1], [1])), node("Mul", ["units", "minus"], ["less"])]
    nodes += [node("Equal", ["target", "less"], ["same"]), node("Where", ["same", "units", "target"], ["wanted"])]
    parts = []
    for k, name in enumerate(("first", "down_rows", "columns")):
        nodes += [node("Expand", [name, "wanted"], [f"e{k}"])]
        nodes += [node("Unsqueeze", [f"e{k}", "end"], [f"u{k}"])] if opset >= 13 else [node("Unsqueeze", [f"e{k}"], [f"u{k}"], axes=[-1])]
        parts.append(f"u{k}")
    nodes += [node("Concat", parts, ["places"], axis=-1), node("Concat", ["target", "nothing"], ["all"], axis=0)]
    nodes += [node("Reshape", ["blank", "all"], ["new"]), node("ScatterND", ["ones", "places", "new"], ["mask"]), node("Mul", ["x", "mask"])]
    data = model(nodes, {"x": (1, size, size), "p": (2,)}, weights=ints, opset=opset)
    return (f"patch-{size}-{width}-{opset}", data, (1, size, size), (2,), -2 * size, 2 * size)


CASES: list[Case] = [
    *reads(False), *reads(True), *(case for constant in ("", "data", "updates", "both") for case in writes(constant)),
]  # fmt: skip
PATCHES = [patched(4, 1), patched(5, 2, opset=11), patched(3, 3)]
