"""Model-local functions, If, Loop, Scan and sequences: expanded at load, compared with onnxruntime, refused where their course is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import floats, node
from onnx import TensorProto, helper, numpy_helper

from graph.errors import ModelError, UnsupportedOperator
from graph.evaluate import evaluate
from graph.load import Limits, Model, load
from graph.lowering import control
from graph.selfcheck import compare
from tests.checker.test_compositions import check
from verifier.checker import read_model
from verifier.checker.refusal import Rejected

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name: str, kind: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes: list[onnx.NodeProto], inputs: list[Any] = (), outputs: list[Any] = (), **weights: Any) -> onnx.GraphProto:  # type: ignore[assignment]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    named = [info(x) if isinstance(x, str) else x for x in outputs]
    return helper.make_graph(nodes, "g", [info(x) if isinstance(x, str) else x for x in inputs], named, stored)


def built(nodes: list[onnx.NodeProto], shape: tuple[int, ...] = (2, 3), functions: Any = (), opset: int = 17, **weights: Any) -> onnx.ModelProto:
    outer = graph(nodes, [info("x", FLOAT, shape)], ["y"], **weights)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ours", 1)]
    return helper.make_model(outer, opset_imports=imports, functions=list(functions), ir_version=10)


def checked(proto: onnx.ModelProto) -> Model:
    """The engine's network, which agrees with onnxruntime, as the checker's does."""
    loaded = load(proto.SerializeToString())
    for seed in range(3):
        found = compare(loaded, [[floats(*loaded.inputs[0].shape, seed=seed)]])
        assert found.compared > 0 and found.skipped == 0
    check(proto.SerializeToString())
    return loaded


def sites(loaded: Model) -> list[tuple[str, int]]:
    return [part.origin.site for _, part in loaded.lowered if part.origin.site is not None]


# Functions

SCALED = helper.make_function(
    "ours", "Scaled", ["a", "b"], ["out"],
    [helper.make_node("Constant", [], ["c"], value_float=0.5), helper.make_node("LeakyRelu", ["a"], ["h"]),
     helper.make_node("Mul", ["h", "c"], ["m"]), helper.make_node("Add", ["m", "b"], ["out"])],
    [helper.make_opsetid("", 17)], ["slope"],
)  # fmt: skip
SCALED.node[1].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))


def test_functions_are_expanded_with_their_attributes() -> None:
    outer = helper.make_function(
        "ours", "Twice", ["a"], ["out"],
        [helper.make_node("Scaled", ["a", "a"], ["h"], domain="ours", slope=0.25), helper.make_node("Sigmoid", ["h"], ["s"]),
         helper.make_node("Scaled", ["s", "h"], ["out"], domain="ours", slope=-1.5)],
        [helper.make_opsetid("", 17), helper.make_opsetid("ours", 1)],
    )  # fmt: skip
    loaded = checked(built([helper.make_node("Twice", ["x"], ["h"], domain="ours"), node("Tanh", ["h"])], functions=[SCALED, outer]))
    assert sites(loaded) == [("h/h/h", 0), ("h/s", 0), ("h/out/h", 0), ("y", 0)]


def test_bad_functions_are_refused() -> None:
    call = [helper.make_node("Loop0", ["x"], ["y"], domain="ours")]
    itself = helper.make_function(
        "ours", "Loop0", ["a"], ["b"], [helper.make_node("Loop0", ["a"], ["b"], domain="ours")], [helper.make_opsetid("ours", 1)]
    )
    with pytest.raises(ModelError, match="recursion"):
        load(built(call, functions=[itself]).SerializeToString())
    with pytest.raises(ModelError, match="slope"):
        load(built([helper.make_node("Scaled", ["x", "x"], ["y"], domain="ours")], functions=[SCALED]).SerializeToString())
    with pytest.raises(ModelError, match="none of the function's"):
        load(built([helper.make_node("Scaled", ["x", "x"], ["y"], domain="ours", slope=1.0, other=1)], functions=[SCALED]).SerializeToString())
    with pytest.raises(ModelError, match="has more"):
        load(built([helper.make_node("Scaled", ["x", "x", "x"], ["y"], domain="ours", slope=1.0)], functions=[SCALED]).SerializeToString())


def test_two_operators_of_one_name_are_refused() -> None:
    nodes = [node("Tanh", ["x"], ["y/h"]), helper.make_node("Scaled", ["y/h", "x"], ["y"], domain="ours", slope=1.0)]
    with pytest.raises(ModelError, match="rename"):
        load(built(nodes, functions=[SCALED]).SerializeToString())


# If

THEN = graph([node("Sigmoid", ["h"], ["t"])], [], ["t"])
ELSE = graph([node("Add", ["h", "w"], ["e0"]), node("Relu", ["e0"], ["e"])], [], ["e"], w=floats(3, seed=3))


@pytest.mark.parametrize("condition", [True, False])
def test_if_takes_the_branch_that_is_known(condition: bool) -> None:
    nodes = [node("Neg", ["x"], ["h"]), node("If", ["c"], ["y"], then_branch=THEN, else_branch=ELSE)]
    loaded = checked(built(nodes, c=np.array(condition)))
    assert sites(loaded) == ([("y/t", 0)] if condition else [("y/e", 0)])


def test_if_may_depend_on_a_shape_but_not_on_the_input() -> None:
    nodes = [node("Shape", ["x"], ["s"]), node("ReduceProd", ["s"], ["n"], keepdims=0), node("Equal", ["n", "six"], ["c"]), node("Neg", ["x"], ["h"])]
    branches = {"then_branch": THEN, "else_branch": ELSE}
    assert sites(checked(built([*nodes, node("If", ["c"], ["y"], **branches)], six=np.array(6)))) == [("y/t", 0)]
    bad = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "zero"], ["c"]), node("Neg", ["x"], ["h"])]
    with pytest.raises(ModelError, match=r"the_(If|Greater)"):
        load(built([*bad, node("If", ["c"], ["y"], **branches)], zero=np.float32(0)).SerializeToString())


# Loop and Scan


def body(extra: list[onnx.NodeProto], outputs: list[Any]) -> onnx.GraphProto:
    """carried = tanh(carried w + x); collected = carried + iteration."""
    nodes = [
        node("MatMul", ["carried_in", "w"], ["m"]), node("Add", ["m", "x"], ["a"]), node("Tanh", ["a"], ["carried_out"]),
        node("Cast", ["k"], ["kf"], to=FLOAT), node("Add", ["carried_out", "kf"], ["collected"]), *extra,
    ]  # fmt: skip
    return graph(nodes, [info("k", INT, []), info("going", BOOL, []), "carried_in"], outputs)


def test_loop_is_unrolled_and_collects() -> None:
    steps = body([node("Identity", ["going"], ["go"])], [info("go", BOOL, []), "carried_out", "collected"])
    nodes = [
        node("Loop", ["n", "", "x"], ["last", "all"], body=steps),
        node("ReduceSum", ["all", "zero"], ["s"], keepdims=0),
        node("Add", ["last", "s"]),
    ]
    loaded = checked(built(nodes, n=np.array(3), w=0.5 * floats(3, 3), zero=np.array([0])))
    assert sites(loaded) == [(f"last/{k}/carried_out", 0) for k in range(3)]


def test_loop_ends_where_its_condition_says() -> None:
    steps = body([node("Less", ["k", "two"], ["go"])], [info("go", BOOL, []), "carried_out"])
    loaded = checked(built([node("Loop", ["", "start", "x"], ["y"], body=steps)], w=0.5 * floats(3, 3), two=np.array(2), start=np.array(True)))
    assert sites(loaded) == [(f"y/{k}/carried_out", 0) for k in range(3)]


def test_loops_that_do_not_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST_ITERATIONS", 100)
    steps = graph(
        [node("Identity", ["going"], ["go"]), node("Identity", ["a"], ["b"])],
        [info("k", INT, []), info("going", BOOL, []), "a"],
        [info("go", BOOL, []), "b"],
    )
    with pytest.raises(UnsupportedOperator, match="iterations"):
        load(built([node("Loop", ["", "start", "x"], ["y"], body=steps)], start=np.array(True)).SerializeToString())
    endless = body([node("Identity", ["going"], ["go"])], [info("go", BOOL, []), "carried_out"])
    with pytest.raises(ModelError, match="more than 50 core nodes"):
        load(
            built([node("Loop", ["n", "", "x"], ["y"], body=endless)], n=np.array(10**6), w=floats(3, 3)).SerializeToString(),
            limits=Limits(core_nodes=50),
        )


@pytest.mark.parametrize("attributes", [{}, {"scan_input_directions": [1]}, {"scan_output_directions": [1], "scan_output_axes": [1]}])
def test_scan_reads_slices(attributes: dict[str, Any]) -> None:
    steps = graph([node("Add", ["state", "slice"], ["next"]), node("Relu", ["next"], ["out"])], ["state", "slice"], ["next", "out"])
    nodes = [
        node("Scan", ["first", "x"], ["last", "all"], body=steps, num_scan_inputs=1, **attributes),
        node("ReduceSum", ["all"], ["s"], keepdims=0),
    ]
    loaded = checked(
        built([*nodes, node("Mul", ["all", "scale"], ["m"]), node("Add", ["m", "s"], ["y"])], (4, 3), first=floats(3), scale=np.float32([[2]]))
    )
    assert sites(loaded) == [(f"last/{k}/out", 0) for k in range(4)]


# Sequences


def test_sequences_of_known_length() -> None:
    nodes = [
        node("SplitToSequence", ["x", "two"], ["parts"], axis=1), node("SequenceAt", ["parts", "minus"], ["part"]), node("Relu", ["part"], ["r"]),
        node("SequenceInsert", ["parts", "r", "zero"], ["more"]), node("SequenceErase", ["more", "one"], ["fewer"]),
        node("SequenceLength", ["fewer"], ["n"]), node("Cast", ["n"], ["nf"], to=FLOAT), node("ConcatFromSequence", ["fewer"], ["c"], axis=1),
        node("Mul", ["c", "nf"], ["y"]),
    ]  # fmt: skip
    weights = {"two": np.array([2, 1, 3]), "minus": np.array(-1), "zero": np.array(0), "one": np.array(1)}
    assert sites(checked(built(nodes, (2, 6), **weights))) == [("r", 0)]


def test_sequences_are_built_and_stacked() -> None:
    nodes = [node("SequenceEmpty", [], ["none"]), node("SequenceInsert", ["none", "x"], ["s"]), node("SequenceInsert", ["s", "w"], ["t"])]
    checked(built([*nodes, node("ConcatFromSequence", ["t"], axis=-1, new_axis=1)], (2, 3), w=floats(2, 3, seed=1)))
    checked(built([node("SplitToSequence", ["x"], ["s"], axis=0, keepdims=0), node("SequenceAt", ["s", "k"])], (2, 3), k=np.array(1)))


def test_positions_beyond_the_end_are_refused() -> None:
    nodes = [node("SequenceConstruct", ["x", "x"], ["s"]), node("SequenceAt", ["s", "k"])]
    with pytest.raises(ModelError, match="position 2"):
        load(built(nodes, k=np.array(2)).SerializeToString())
    with pytest.raises(ModelError, match="a sequence; only tensors"):
        load(built([node("SequenceConstruct", ["x", "x"])]).SerializeToString())


def test_a_sequence_is_mapped_and_optional_values_are_there() -> None:
    negated = graph([node("Neg", ["g"], ["n"])], [], ["n"])
    each = graph([node("Mul", ["item", "factor"], ["m"]), node("Tanh", ["m"], ["t"])], ["item", "factor"], ["t"])
    nodes = [
        node("SplitToSequence", ["x", "two"], ["s"], axis=1), node("SequenceMap", ["s", "w"], ["q"], body=each),
        node("ConcatFromSequence", ["q"], ["c"], axis=1), node("Optional", ["c"], ["o"]), node("OptionalHasElement", ["o"], ["has"]),
        node("OptionalGetElement", ["o"], ["g"]), node("If", ["has"], ["y"], then_branch=negated, else_branch=THEN),
    ]  # fmt: skip
    proto = built(nodes, (2, 6), opset=18, two=np.array(2), w=floats(2, 2, seed=4))
    loaded = load(proto.SerializeToString())  # onnxruntime has no kernel for optional tensors
    assert sites(loaded) == [(f"q/{k}/t", 0) for k in range(3)]
    x, factor = floats(2, 6), np.tile(floats(2, 2, seed=4), (1, 3))
    assert np.allclose(evaluate(loaded.graph, [x])[loaded.graph.outputs[0]].reshape(2, 6), -np.tanh(x * factor))


# Masks of -infinity

SCORES = (2, 3, 3)


@pytest.mark.parametrize("kind", ["Add", "Where", "initialiser"])
def test_causal_masks_leave_elements_out(kind: str) -> None:
    triangle = np.tril(np.ones((3, 3), bool))
    weights: dict[str, Any] = {"keep": triangle, "minus": np.float32(-np.inf), "zero": np.float32(0)}
    nodes = [node("Where", ["keep", "zero", "minus"], ["mask"]), node("Add", ["x", "mask"], ["s"])]
    if kind == "Where":
        nodes = [node("Where", ["keep", "x", "minus"], ["s"])]
    if kind == "initialiser":
        nodes, weights = nodes[1:], {"mask": np.where(triangle, 0, -np.inf).astype(np.float32)}
    loaded = checked(built([*nodes, node("Identity", ["s"], ["i"]), node("Softmax", ["i"], axis=-1)], SCORES, **weights))
    assert sites(loaded) == [("y", k) for k in range(3)]


def test_other_uses_of_infinity_are_refused() -> None:
    weights: dict[str, Any] = {"mask": np.float32([0, -np.inf, 0]), "all": np.float32([-np.inf] * 3)}
    for nodes, words in [
        ([node("Mul", ["x", "mask"])], "-infinity"), ([node("Add", ["x", "mask"], ["s"]), node("Exp", ["s"])], "-infinity"),
        ([node("Add", ["x", "all"], ["s"]), node("Softmax", ["s"])], "everywhere"), ([node("Add", ["x", "mask"])], "only tensors"),
        ([node("Neg", ["mask"], ["m"]), node("Add", ["x", "m"])], "Inf"), ([node("Gemm", ["x", "x", "mask"], transB=1)], "-infinity"),
    ]:  # fmt: skip
        with pytest.raises(ModelError, match=words):
            load(built(nodes, (3, 3), **weights).SerializeToString())


# Operators that the standard defines by others


def test_what_the_standard_defines_by_others_is_expanded() -> None:
    """A loss has a body that depends on its types; the checker has no rule for it, since the names inside are the package's."""
    nodes = [node("SoftmaxCrossEntropyLoss", ["x", "labels"], reduction="mean", ignore_index=1)]
    proto = built(nodes, (3, 4), labels=np.array([2, 1, 0]))
    loaded = load(proto.SerializeToString())
    assert compare(loaded, [[floats(3, 4)]]).compared > 0
    assert {name.partition("/")[0] for name, _ in sites(loaded)} == {"y"}
    with pytest.raises(Rejected, match="SoftmaxCrossEntropyLoss"):
        read_model.read(proto.SerializeToString())
    with pytest.raises(UnsupportedOperator, match="nonsense"):
        load(built([node("SoftmaxCrossEntropyLoss", ["x", "labels"], nonsense=1)], (3, 4), labels=np.array([2, 1, 0])).SerializeToString())


def test_nodes_out_of_order_are_named_as_such() -> None:
    """onnxruntime sorts them; the standard does not allow them."""
    nodes = [node("Relu", ["h"], ["y"]), node("Neg", ["x"], ["h"])]
    model = helper.make_model(graph(nodes, [info("x", shape=(1, 3))], ["y"]), opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(ModelError, match=r"'h' is made by a later node.*sort"):
        load(model.SerializeToString())
