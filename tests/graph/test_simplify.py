"""The passes: same function (over the reals), expected shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from graph_models import floats, model, node
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from graph.core import Affine, Constant, Elementwise, Input
from graph.evaluate import evaluate
from graph.linear_map import Conv, Dense, Transposed
from graph.load import load
from graph.selfcheck import compare
from graph.simplify import recentre_softmax, simplify
from tests.effort import examples


def kinds(graph: Any) -> list[str]:
    return [type(n).__name__ for n in graph.nodes]


def test_fully_connected_with_input_normalisation() -> None:
    """The shape of the ACAS Xu files: Sub, Flatten, then MatMul, Add, Relu."""
    nodes = [node("Sub", ["x", "mean"], ["c"]), node("Flatten", ["c"], ["h0"])]
    weights: dict[str, Any] = {"mean": floats(1, 1, 1, 5)}
    for k in range(3):
        weights |= {f"w{k}": floats(5, 5, seed=k), f"b{k}": floats(5, seed=k)}
        nodes += [node("MatMul", [f"h{k}", f"w{k}"], [f"m{k}"]), node("Add", [f"m{k}", f"b{k}"], [f"a{k}"]), node("Relu", [f"a{k}"], [f"h{k + 1}"])]
    loaded = load(model(nodes, {"x": (1, 1, 1, 5)}, ["a2"], weights))
    assert kinds(loaded.graph) == ["Input", "Affine", "Elementwise", "Affine", "Elementwise", "Affine"]
    for i in (1, 3, 5):
        affine = loaded.graph.nodes[i]
        assert isinstance(affine, Affine) and isinstance(affine.maps[0], Dense) and len(affine.maps) == 1 and affine.bias is not None
        assert affine.maps[0].weight.dtype == np.float32 and affine.maps[0].weight.base is not None  # the file's weights, not a copy
    first = loaded.graph.nodes[1].origin.operators
    assert [o.split()[0] for o in first] == ["Sub", "Flatten", "MatMul", "Add"] or [o.split()[0] for o in first] == ["Sub", "MatMul", "Add"]
    compare(loaded, [[floats(5)]])


def test_batch_normalisation_moves_into_the_convolution_before_or_after() -> None:
    bn = {"s": floats(4), "o": floats(4, seed=1), "m": floats(4, seed=2), "v": floats(4, low=0.2)}
    before = [node("BatchNormalization", ["x", *bn], ["h"]), node("Conv", ["h", "w", "b"])]
    after = [node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1, 1, 1]), node("BatchNormalization", ["h", *bn])]
    transposed = [node("ConvTranspose", ["x", "w"], ["h"], strides=[2, 2]), node("BatchNormalization", ["h", *bn])]
    for nodes, expected in ((before, Conv), (after, Conv), (transposed, Transposed)):
        loaded = load(model(nodes, {"x": (1, 4, 5, 5)}, weights={**bn, "w": floats(4, 4, 3, 3), "b": floats(4)}))
        assert kinds(loaded.graph) == ["Input", "Affine"]
        assert isinstance(loaded.graph.nodes[1].maps[0], expected)  # type: ignore[attr-defined]
        compare(loaded, [[floats(1, 4, 5, 5, seed=k)] for k in range(2)])


def test_grouped_convolution_absorbs_input_scaling() -> None:
    nodes = [node("Mul", ["x", "s"], ["h"]), node("Conv", ["h", "w"], group=2)]
    loaded = load(model(nodes, {"x": (1, 4, 5)}, weights={"s": floats(1, 4, 1), "w": floats(6, 2, 3)}))
    assert kinds(loaded.graph) == ["Input", "Affine"] and isinstance(loaded.graph.nodes[1].maps[0], Conv)  # type: ignore[attr-defined]
    compare(loaded, [[floats(1, 4, 5)]])


def test_transposes_cancel() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("Mul", ["t", "s"], ["m"]),
        node("Transpose", ["m"], ["u"], perm=[0, 2, 1]),
        node("Relu", ["u"]),
    ]
    loaded = load(model(nodes, {"x": (1, 3, 4)}, weights={"s": np.float32(2)}))
    assert [type(m).__name__ for m in loaded.graph.nodes[1].maps] == ["Scale"]  # type: ignore[attr-defined]
    plain = load(model([nodes[0], node("Transpose", ["t"], ["u"], perm=[0, 2, 1]), nodes[3]], {"x": (1, 3, 4)}))
    assert kinds(plain.graph) == ["Input", "Elementwise"]


def test_a_slice_of_a_concatenation_reads_only_its_part() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Sin", ["x"], ["s"]), node("Concat", ["r", "s"], ["c"], axis=1)]
    nodes += [node("Slice", ["c", "a", "b", "one"], ["p"]), node("Slice", ["c", "b", "e", "one"], ["q"]), node("Mul", ["p", "q"])]
    weights = {"a": np.array([0]), "b": np.array([3]), "e": np.array([6]), "one": np.array([1])}
    graph = load(model(nodes, {"x": (1, 3)}, weights=weights)).graph
    assert kinds(graph) == ["Input", "Elementwise", "Elementwise", "Bilinear"]


def test_large_products_are_not_multiplied_out() -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "v"])]
    wide = load(model(nodes, {"x": (1, 40)}, weights={"w": floats(40, 2), "v": floats(2, 40)})).graph
    assert len(wide.nodes) == 2 and type(wide.nodes[1].maps[0]).__name__ == "Composition"  # type: ignore[attr-defined]
    narrow = load(model(nodes, {"x": (1, 2)}, weights={"w": floats(2, 40), "v": floats(40, 2)})).graph
    assert len(narrow.nodes) == 2 and isinstance(narrow.nodes[1].maps[0], Dense)  # type: ignore[attr-defined]


def test_steps_of_a_loop_do_not_take_in_all_that_came_before() -> None:
    """Found by the fuzzer: sums so far of 300 rows, each with all rows before it, would be 45,000 terms, and were compared in pairs."""
    body = helper.make_graph(
        [helper.make_node("Add", ["so_far", "row"], ["sum"]), helper.make_node("Identity", ["sum"], ["told"])], "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [40]) for name in ("so_far", "row")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [40]) for name in ("sum", "told")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["first", "rest"], axis=1), helper.make_node("Reshape", ["first", "wide"], ["start"]),
        helper.make_node("Reshape", ["rest", "long"], ["rows"]),
        helper.make_node("Scan", ["start", "rows"], ["last", "all"], body=body, num_scan_inputs=1), node("Relu", ["all"]),
    ]  # fmt: skip
    weights = {"wide": np.array([40]), "long": np.array([300, 40]), "sizes": np.array([40, 12000])}
    loaded = load(model(nodes, {"x": [1, 12040]}, weights=weights, opset=18))
    assert sum(len(n.maps) for n in loaded.graph.nodes if isinstance(n, Affine)) <= 4 * 300
    compare(loaded, [[np.random.default_rng(0).random(12040, np.float32)]])


def test_an_output_that_is_also_read_survives_fusion() -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"])]
    loaded = load(model(nodes, {"x": (1, 3)}, ["h", "y"], {"w": floats(3, 3), "b": floats(3)}))
    assert set(loaded.graph.output_names) == {"h", "y"} and loaded.graph.outputs[0] != loaded.graph.outputs[1]
    compare(loaded, [[floats(3)]])


def test_constant_output_and_dead_input() -> None:
    loaded = load(model([node("Identity", ["w"], ["y"]), node("Relu", ["x"], ["z"])], {"x": (2,), "unused": (3,)}, ["y", "z"], {"w": floats(2)}))
    assert [type(loaded.graph.nodes[i]) for i in loaded.graph.outputs] == [Constant, Elementwise]
    assert loaded.graph.input_names == ("x", "unused") and isinstance(loaded.graph.nodes[loaded.graph.inputs[1]], Input)
    compare(loaded, [[floats(2), floats(3)]])


def test_softmax_is_recentred_at_a_point() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Softmax", ["h"], ["s"], axis=1),
        node("Mul", ["s", "big"], ["t"]),
        node("Softmax", ["t"], axis=1),
    ]
    weights = {"w": 1000 * floats(3, 4), "big": np.array([0, 900, 0, 2000], np.float32)}
    loaded = load(model(nodes, {"x": (2, 3)}, weights=weights))
    assert len(loaded.graph.shifts) == 2
    x = floats(2, 3)
    assert not np.isfinite(evaluate(loaded.graph, [x])[-1]).all()  # exp overflows where no shift has been chosen
    y = evaluate(recentre_softmax(loaded.graph, [x]), [x])[-1].reshape(2, 4)
    np.testing.assert_allclose(y.sum(axis=1), 1)
    compare(loaded, [[x]])


@st.composite
def networks(draw: st.DrawFn) -> bytes:
    """Random graphs of affine operators with sharing, and now and then an activation."""
    shape, names, weights, nodes = (2, 3, 4), ["x"], {}, []
    for k in range(draw(st.integers(2, 9))):
        source, other, name = draw(st.sampled_from(names)), draw(st.sampled_from(names)), f"t{k}"
        kind = draw(st.sampled_from(["Add", "Sub", "MatMul", "left", "Mul", "Transpose", "shift", "Concat", "Relu", "Reduce", "Slice"]))
        seed = draw(st.integers(0, 999))
        if kind in ("Add", "Sub"):
            nodes.append(node(kind, [source, other], [name]))
        elif kind == "MatMul":
            weights[f"w{k}"] = floats(4, 4, seed=seed)
            nodes.append(node("MatMul", [source, f"w{k}"], [name]))
        elif kind == "left":
            weights[f"w{k}"] = floats(2, 3, 3, seed=seed)
            nodes.append(node("MatMul", [f"w{k}", source], [name]))
        elif kind in ("Mul", "shift"):
            weights[f"w{k}"] = floats(*draw(st.sampled_from([(1,), (4,), (3, 1), (2, 3, 4)])), seed=seed)
            nodes.append(node("Mul" if kind == "Mul" else "Add", [source, f"w{k}"], [name]))
        elif kind == "Transpose":
            weights[f"w{k}"] = np.array([2, 3, 4])
            nodes += [node("Transpose", [source], [f"u{k}"], perm=[2, 0, 1]), node("Reshape", [f"u{k}", f"w{k}"], [name])]
        elif kind == "Concat":
            nodes += [node("Concat", [source, other], [f"u{k}"], axis=1)]
            weights[f"i{k}"] = np.random.default_rng(seed).integers(0, 6, 3)
            nodes.append(node("Gather", [f"u{k}", f"i{k}"], [name], axis=1))
        elif kind == "Relu":
            nodes.append(node("Relu", [source], [name]))
        elif kind == "Reduce":
            nodes += [node("ReduceMean", [source], [f"u{k}"], axes=[1]), node("Sub", [other, f"u{k}"], [name])]
        else:
            weights |= {f"s{k}": np.array([3]), f"e{k}": np.array([-9]), f"a{k}": np.array([1]), f"d{k}": np.array([-1])}
            nodes.append(node("Slice", [source, f"s{k}", f"e{k}", f"a{k}", f"d{k}"], [name]))
        names.append(name)
    outputs = [names[-1], *draw(st.lists(st.sampled_from(names[1:-1] or names[-1:]), max_size=1, unique=True))]
    return model(nodes, {"x": shape}, list(dict.fromkeys(outputs)), weights)


@given(networks(), st.integers(0, 999))
@settings(max_examples=examples(60))
def test_random_networks_keep_their_function(content: bytes, seed: int) -> None:
    loaded = load(content)
    found = compare(loaded, [[floats(2, 3, 4, seed=seed + k)] for k in range(2)])
    assert found.skipped == 0
    again = simplify(loaded.graph)
    assert kinds(again) == kinds(loaded.graph)  # nothing is left to do
    assert len(loaded.graph.nodes) <= len(loaded.lowered.nodes)
    known = {operator for n in loaded.lowered.nodes for operator in n.origin.operators}
    assert {operator for n in loaded.graph.nodes for operator in n.origin.operators} <= known
