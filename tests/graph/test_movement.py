"""Operators that move, pick, order, resample and reduce, in the forms of several opsets, against onnxruntime within its own rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graph_models import floats, model, node
from movement_cases import MOVEMENT, OUTPUTS, POSITIVE

from graph.core import Input
from graph.errors import ModelError, UnsupportedOperator
from graph.evaluate import evaluate
from graph.load import Model, load
from graph.selfcheck import compare


def built(case: Any) -> Model:
    """The operator with every output behind a Cast to float32."""
    kind, opset, inputs, weights, attributes = case
    raw = [f"raw{i}" for i in range(OUTPUTS.get(kind, 1))]
    order = ["i", "d", "v"] if kind == "OneHot" else [*inputs, *weights]
    tail = [node("Cast", [name], [f"y{i}"], to=1) for i, name in enumerate(raw)]
    return load(model([node(kind, order, raw, **attributes), *tail], inputs, [f"y{i}" for i in range(len(raw))], weights, opset))


def points(loaded: Model, low: float, high: float) -> list[dict[str, Any]]:
    return [{info.name: floats(*info.shape, seed=k + i, low=low, high=high) for i, info in enumerate(loaded.inputs)} for k in range(3)]


def name_of(case: Any) -> str:
    return f"{case[0]}-{case[1]}-{'-'.join(map(str, case[4])) or 'plain'}"


@pytest.mark.parametrize("case", [*MOVEMENT, *POSITIVE], ids=name_of)
def test_operator_agrees_with_onnxruntime(case: Any) -> None:
    loaded = built(case)
    if case[0] in ("CumProd", "EyeLike"):  # no kernel in onnxruntime, or nothing that depends on the input: the cases of onnx are the oracle
        assert all(np.isfinite(v).all() for v in evaluate(loaded.graph, points(loaded, -2.0, 2.0)[0]))
        return
    found = compare(loaded, points(loaded, 0.25, 3.0) if case in POSITIVE else points(loaded, -2.0, 2.0))
    assert found.compared > 0 and found.skipped == 0


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (("Resize", 19, {"x": (1, 1, 3, 3)}, {"r": floats(0), "s": np.array([1, 1, 2, 2], np.float32)}, {"mode": "quintic"}), "quintic"),
        (("GridSample", 22, {"x": (1, 1, 3, 3), "g": (1, 2, 2, 2)}, {}, {}), "only a constant"),
        (("TopK", 11, {"x": (2, 4)}, {"k": np.array([2])}, {"sorted": 0}), "sorted"),
        (("TopK", 11, {"x": (2, 4)}, {"k": np.array([5])}, {}), "of 4 elements"),
        (("ScatterND", 18, {"x": (3, 2)}, {"i": np.array([[3]]), "u": floats(1, 2)}, {}), "outside of an axis"),
        (("Einsum", 12, {"x": (2, 3), "z": (2, 3)}, {}, {"equation": "ij,jk->ik"}), "two sizes"),
        (("Unique", 11, {"x": (3,)}, {}, {}), "only constants"),
        (("LpNormalization", 22, {"x": (2, 3)}, {}, {"p": 3}), "1 and 2"),
    ],
)
def test_other_forms_are_refused(case: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        built(case)


def test_equal_elements_count_as_the_standard_says() -> None:
    """onnxruntime and we agree on which of equal elements is the largest."""
    tied = np.array([[1, 3, 3, 0], [2, 2, 2, 2]], np.float32)
    for kind, attributes in (
        ("ArgMax", {"axis": 1}),
        ("ArgMax", {"axis": 1, "select_last_index": 1}),
        ("ArgMin", {"axis": 1}),
        ("Hardmax", {"axis": 1}),
    ):
        loaded = built((kind, 13, {"x": (2, 4)}, {}, attributes))
        assert compare(loaded, [{"x": tied}]).compared > 0
    places = evaluate(built(("TopK", 11, {"x": (2, 4)}, {"k": np.array([3])}, {})).graph, {"x": tied})
    assert places[-1].tolist() == [[1, 2, 0, 0, 1, 2]]


def test_a_one_hot_index_may_depend_on_the_input() -> None:
    steps = [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), node("OneHot", ["i", "d", "v"], ["y"], axis=0)]
    loaded = load(model(steps, {"x": (3, 4)}, weights={"d": np.int64(4), "v": np.array([0.5, 2], np.float32)}))
    assert compare(loaded, points(loaded, -2.0, 2.0)).skipped == 0
    with pytest.raises(UnsupportedOperator, match="cast them to int64"):
        built(("OneHot", 11, {"i": (2,)}, {"d": np.int64(3), "v": floats(2)}, {}))


def test_an_order_that_is_certain_becomes_a_constant() -> None:
    """An index costs as many comparisons as there are pairs, no more."""
    loaded = built(("ArgMax", 13, {"x": (1, 5)}, {}, {"axis": 1}))
    assert [n.size for n in loaded.graph.nodes if not isinstance(n, Input)][:2] == [10, 10]
