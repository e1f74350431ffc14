"""What the reader of models refuses (ARITHMETIC 9 "Model", 65 to 69): each rule is broken by a model that is otherwise fine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.effort import examples
from tests.graph.graph_models import floats, model, node
from verifier.checker import read_model
from verifier.checker.lowering import builder
from verifier.checker.lowering.evaluate import evaluate
from verifier.checker.network import Affine, Elementwise, Network
from verifier.checker.refusal import Rejected

UNKNOWN = b"\xc0\x3e\x01"  # field 1000, a number
Change = Callable[[onnx.ModelProto], Any]


def small() -> onnx.ModelProto:
    """y = relu(x w + b) for x of shape (N, 2)."""
    nodes = [node("Gemm", ["x", "w", "b"], ["z"]), node("Relu", ["z"])]
    made = model(nodes, {"x": ["N", 2]}, weights={"w": floats(2, 3), "b": floats(3, seed=1)})
    return onnx.ModelProto.FromString(made)


def read(proto: onnx.ModelProto) -> Network:
    return read_model.read(proto.SerializeToString())


def refused(proto: onnx.ModelProto | bytes) -> str:
    """Why; `rule: place`."""
    with pytest.raises(Rejected) as caught:
        read_model.read(proto if isinstance(proto, bytes) else proto.SerializeToString())
    assert caught.value.rule in ("unsupported-model", "unsupported-operator"), caught.value
    return str(caught.value)


def test_the_model_that_is_changed_below_is_read() -> None:
    network = read(small())
    assert [network.nodes[i].shape for i in (*network.inputs, *network.outputs)] == [(1, 2), (1, 3)]
    assert (network.input_names, network.output_names, network.sites) == (("x",), ("y",), {("y", 0): 2})
    assert [type(n) for n in network.nodes[1:]] == [Affine, Elementwise]


def _twice(field: str) -> Change:
    return lambda m: getattr(m.graph, field).append(getattr(m.graph, field)[0])


def _rename(path: Callable[[onnx.ModelProto], Any], name: str) -> Change:
    def change(m: onnx.ModelProto) -> None:
        path(m).name = name

    return change


def _outputs(i: int, *names: str) -> Change:
    def change(m: onnx.ModelProto) -> None:
        m.graph.node[i].output[:] = names

    return change


def _set(path: Callable[[onnx.ModelProto], Any], **values: Any) -> Change:
    def change(m: onnx.ModelProto) -> None:
        for name, value in values.items():
            setattr(path(m), name, value)

    return change


def _weight(m: onnx.ModelProto) -> onnx.TensorProto:
    return m.graph.initializer[0]


def _as_is(m: onnx.ModelProto) -> onnx.ModelProto:
    return m


GRAPHS: list[tuple[str, Change, str]] = [
    ("an initialiser twice", _twice("initializer"), "two initialisers"),
    ("an input twice", _twice("input"), "two inputs"),
    ("an output twice", _twice("output"), "two outputs"),
    ("a node twice", _twice("node"), "makes"),
    ("a node that makes an initialiser", _outputs(0, "w"), "makes ['w']"),
    ("the last node makes an initialiser", _outputs(1, "b"), "makes"),
    ("a node that makes an input", _outputs(1, "x"), "makes"),
    ("a node that makes one tensor twice", _outputs(1, "y", "y"), "makes"),
    ("a node that makes nothing", _outputs(1), "makes []"),
    ("an initialiser without a name", _rename(lambda m: m.graph.initializer[1], ""), "without a name"),
    ("an input without a name", _rename(lambda m: m.graph.input[0], ""), "without a name"),
    ("nodes out of order", lambda m: m.graph.node.reverse(), "which no earlier node makes"),
    ("an output that nothing makes", _rename(lambda m: m.graph.output[0], "other"), "nothing makes"),
    ("no output", lambda m: m.graph.ClearField("output"), "or none"),
    ("no input", lambda m: (m.graph.initializer.append(numpy_helper.from_array(floats(1, 2), "x")), m.graph.ClearField("input")), "no inputs"),
    ("inputs with defaults only", lambda m: m.graph.initializer.append(numpy_helper.from_array(floats(1, 2), "x")), "no inputs"),
    ("an endless initialiser of no elements", lambda m: _weight(m).dims.extend([0, 1 << 62, 4]), "shape (2, 3, 0, 4611686018427387904, 4)"),
    ("no graph", lambda m: m.ClearField("graph"), "no graph"),
    ("functions", lambda m: m.functions.extend([helper.make_function("f", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [])] * 2), "functions"),
    ("standard function", lambda m: m.functions.append(helper.make_function("", "F", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [])), "functions"),
    ("training information", lambda m: m.training_info.add(), "training"),
    ("a sparse initialiser", lambda m: m.graph.sparse_initializer.add(), "sparse"),
    ("quantisation", lambda m: m.graph.quantization_annotation.add(), "quantisation"),
    ("IR version 2", _set(_as_is, ir_version=2), "IR version 2"),
    ("IR version 15", _set(_as_is, ir_version=15), "IR version 15"),
    ("no IR version", lambda m: m.ClearField("ir_version"), "IR version 0"),
    ("operator set 6", _set(lambda m: m.opset_import[0], version=6), "versions [6]"),
    ("operator set 29", _set(lambda m: m.opset_import[0], version=29), "versions [29]"),
    ("no operator set", lambda m: m.ClearField("opset_import"), "versions []"),
    ("two operator sets", lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 12)), "versions [12, 13]"),
]


@pytest.mark.parametrize(("change", "why"), [pytest.param(change, why, id=name) for name, change, why in GRAPHS])
def test_graphs_that_are_refused(change: Change, why: str) -> None:
    proto = small()
    change(proto)
    assert why in refused(proto)


@pytest.mark.parametrize("where", ["model", "operator set", "graph", "node", "attribute", "initialiser", "input", "type", "shape"])
def test_unknown_fields_are_refused(where: str) -> None:
    proto = small()
    proto.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))
    assert read(proto)
    found: dict[str, Any] = {
        "model": proto, "operator set": proto.opset_import[0], "graph": proto.graph, "node": proto.graph.node[1],
        "attribute": proto.graph.node[0].attribute[0], "initialiser": proto.graph.initializer[1], "input": proto.graph.input[0],
        "type": proto.graph.input[0].type, "shape": proto.graph.input[0].type.tensor_type.shape,
    }  # fmt: skip
    found[where].MergeFromString(UNKNOWN)
    assert UNKNOWN in proto.SerializeToString()
    assert "unknown fields" in refused(proto)


def test_bytes_that_are_no_single_model_are_refused() -> None:
    data = small().SerializeToString()
    again = onnx.ModelProto(ir_version=7).SerializeToString()
    assert "several files in one" in refused(data + data)
    assert "repeated fields" in refused(data + again)
    assert "repeated fields" in refused(again + data)
    assert "unknown fields" in refused(data + UNKNOWN)
    weight = small().graph.initializer[0]
    proto = onnx.ModelProto.FromString(data)
    del proto.graph.initializer[0]
    twice = weight.SerializeToString() + onnx.TensorProto(raw_data=weight.raw_data).SerializeToString()
    part = b"\x2a" + bytes([len(twice)]) + twice  # an initialiser with two raw_data, in a second piece of the graph
    merged = proto.SerializeToString() + b"\x3a" + bytes([len(part)]) + part
    assert len(onnx.ModelProto.FromString(merged).graph.initializer) == 2
    assert "repeated fields" in refused(merged)


def test_an_unknown_field_does_not_hide_behind_a_shorter_encoding() -> None:
    """Seven packed dims are five bytes shorter than onnx writes them, which is room for a field that onnx does not know."""
    data = model([node("Add", ["x", "w"])], {"x": [1, 2]}, weights={"w": floats(1, 1, 1, 1, 1, 1, 1)})
    plain, short = b"\x08\x01" * 7, b"\x0a\x07" + b"\x01" * 7
    hidden = data.replace(plain, short + b"\xc0\x3e\x80\x80\x00")
    assert read_model.read(data) and data.count(plain) == 1 and len(hidden) == len(data)
    assert list(onnx.ModelProto.FromString(hidden).graph.initializer[0].dims) == [1] * 7
    assert "unsupported-model" in refused(hidden)


@pytest.mark.parametrize("data", [b"", b"\x00", b"ACCEPTED {}", b"PK\x05\x06" + bytes(18), b"\x08\x08\x3a\xff"], ids=repr)
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    assert "unsupported-model" in refused(data)


def test_other_formats_of_onnx_are_refused() -> None:
    """Bytes are parsed as protobuf, whatever the file is called: there is nothing else to choose by."""
    proto = small()
    assert "unsupported-model" in refused(onnx.printer.to_text(proto).encode())
    for name in ("json", "textproto"):
        registered = onnx.serialization.registry.get(name)
        assert "unsupported-model" in refused(registered.serialize_proto(proto))


TENSORS: list[tuple[str, Change, str]] = [
    ("external data", lambda t: t.external_data.add(key="location", value="w.bin"), "external data"),
    ("external data by its location only", lambda t: setattr(t, "data_location", TensorProto.EXTERNAL), "external data"),
    ("raw and plain numbers", lambda t: t.float_data.extend([0.0] * 6), "data fields"),
    ("numbers in the wrong field", lambda t: (t.ClearField("raw_data"), t.int64_data.extend([0] * 6)), "data fields"),
    ("two fields of numbers", lambda t: (t.ClearField("raw_data"), t.int64_data.extend([0]), t.float_data.extend([0.0] * 6)), "data fields"),
    ("bytes too few", lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "23 bytes"),
    ("bytes too many", lambda t: setattr(t, "raw_data", t.raw_data + bytes(4)), "28 bytes"),
    ("no bytes", lambda t: t.ClearField("raw_data"), "0 numbers"),
    ("numbers too few", lambda t: (t.ClearField("raw_data"), t.float_data.extend([0.0] * 5)), "5 numbers"),
    ("a negative axis", lambda t: t.dims.__setitem__(slice(None), [-1, 3]), "shape (-1, 3)"),
    ("two negative axes", lambda t: t.dims.__setitem__(slice(None), [-2, -3]), "shape (-2, -3)"),
    ("an enormous shape", lambda t: t.dims.__setitem__(slice(None), [1 << 40, 1 << 40]), "shape"),
    ("a segment", lambda t: t.segment.MergeFromString(b"\x08\x00"), "segments"),
    ("NaN", lambda t: setattr(t, "raw_data", np.full(6, np.nan, np.float32).tobytes()), "NaN"),
    ("Inf", lambda t: setattr(t, "raw_data", np.full(6, -np.inf, np.float32).tobytes()), "NaN"),
    ("NaN as a plain number", lambda t: (t.ClearField("raw_data"), t.float_data.extend([0.0] * 5 + [np.nan])), "NaN"),
    ("float16", lambda t: t.CopyFrom(numpy_helper.from_array(np.ones((2, 3), np.float16), "w")), "float16"),
    ("float16 as whole numbers", lambda t: t.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT16, [2, 3], [1] * 6)), "without raw data"),
    ("uint32", lambda t: t.CopyFrom(numpy_helper.from_array(np.ones((2, 3), np.uint32), "w")), "element type 12"),
    ("strings", lambda t: t.CopyFrom(helper.make_tensor("w", TensorProto.STRING, [2, 3], [b"a"] * 6)), "element type 8"),
    ("no type", lambda t: t.ClearField("data_type"), "element type 0"),
    ("int64 as weights", lambda t: t.CopyFrom(numpy_helper.from_array(np.ones((2, 3), np.int64), "w")), "int64"),
    ("bool as weights", lambda t: t.CopyFrom(numpy_helper.from_array(np.ones((2, 3), np.bool_), "w")), "bool"),
]


@pytest.mark.parametrize(("change", "why"), [pytest.param(change, why, id=name) for name, change, why in TENSORS])
@pytest.mark.parametrize("home", ["initialiser", "attribute"])
def test_tensors_that_are_refused(home: str, change: Callable[[onnx.TensorProto], Any], why: str) -> None:
    """As an initialiser, and as the value of a Constant."""
    proto = small()
    if home == "attribute":
        constant = proto.graph.node.add(op_type="Constant", output=["w"])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(proto.graph.initializer[0])
        nodes = [constant, *proto.graph.node[:2]]
        del proto.graph.initializer[0]
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        proto.graph.ClearField("node")
        proto.graph.node.extend(copies)
        target = proto.graph.node[0].attribute[0].t
    else:
        target = proto.graph.initializer[0]
    assert read(proto)
    change(target)
    assert why in refused(proto)


def test_bools_are_0_or_1() -> None:
    condition = numpy_helper.from_array(np.array([True, False]), "c")
    proto = onnx.ModelProto.FromString(model([node("Where", ["c", "x", "w"])], {"x": [1, 2]}, weights={"w": floats(1, 2)}))
    proto.graph.initializer.append(condition)
    assert read(proto)
    proto.graph.initializer[1].raw_data = b"\x01\x02"
    assert "neither 0 nor 1" in refused(proto)
    proto.graph.initializer[1].ClearField("raw_data")
    proto.graph.initializer[1].int32_data.extend([1, -1])
    assert "neither 0 nor 1" in refused(proto)


INPUTS: list[tuple[str, Callable[[onnx.ValueInfoProto], Any], str]] = [
    ("float16", lambda i: setattr(i.type.tensor_type, "elem_type", TensorProto.FLOAT16), "element type 10"),
    ("int64", lambda i: setattr(i.type.tensor_type, "elem_type", TensorProto.INT64), "element type 7"),
    ("no type", lambda i: i.ClearField("type"), "no tensor"),
    ("a sequence", lambda i: i.type.sequence_type.elem_type.tensor_type.MergeFromString(b"\x08\x01"), "no tensor"),
    ("no shape", lambda i: i.type.tensor_type.ClearField("shape"), "without a shape"),
    ("a dynamic second axis", lambda i: setattr(i.type.tensor_type.shape.dim[1], "dim_param", "M"), "of shape [0, 0]"),
    ("a dynamic second axis only", lambda i: _shape(i, 1, "M"), "of shape [1, 0]"),
    ("an empty second axis", lambda i: _shape(i, "N", 0), "of shape [0, 0]"),
    ("a negative axis", lambda i: _shape(i, "N", -2), "of shape [0, -2]"),
    ("a negative first axis", lambda i: _shape(i, -1, 2), "of shape [-1, 2]"),
    ("an enormous axis", lambda i: _shape(i, "N", 1 << 62), "a tensor of shape"),
]


def _shape(info: onnx.ValueInfoProto, *axes: int | str) -> None:
    info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, axes))


@pytest.mark.parametrize(("change", "why"), [pytest.param(change, why, id=name) for name, change, why in INPUTS])
def test_inputs_that_are_refused(change: Callable[[onnx.ValueInfoProto], Any], why: str) -> None:
    proto = small()
    change(proto.graph.input[0])
    assert why in refused(proto)


@pytest.mark.parametrize(("axes", "shape"), [(("N", 2), (1, 2)), ((0, 2), (1, 2)), ((4, 2), (4, 2)), ((2,), (2,)), (("N",), (1,)), ((), ())])
def test_shapes_of_inputs(axes: tuple[int | str, ...], shape: tuple[int, ...]) -> None:
    """A dynamic leading axis is 1."""
    network = read_model.read(model([node("Relu", ["x"])], {"x": axes}))
    assert [n.shape for n in network.nodes] == [shape, shape]


def test_shapes_are_computed_not_read() -> None:
    proto = small()
    proto.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.INT64, [7, 7]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [5]))
    assert read(proto).nodes[2].shape == (1, 3)


@pytest.mark.parametrize("ir_version", [3, 8])
def test_an_initialiser_that_is_an_input_is_its_default(ir_version: int) -> None:
    """Before IR version 4 every initialiser was listed as an input; since then one that is can be overridden by who runs the model.
    Either way the network is the one with the file's numbers, and the others are its inputs."""
    proto = small()
    proto.ir_version = ir_version
    proto.graph.input.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, [9, 9]))
    network, plain = read(proto), read(small())
    assert network.input_names == ("x",)
    x = floats(1, 2)
    assert np.array_equal(evaluate(network, [x])[-1], evaluate(plain, [x])[-1])


DOMAINS = ["evil", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training", "Ai.onnx"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_operators_of_other_domains_are_refused(domain: str) -> None:
    proto = small()
    proto.opset_import.append(helper.make_opsetid(domain, 13))
    assert read(proto)  # imported is not used
    proto.graph.node[1].domain = domain
    assert f"{domain}.Relu" in refused(proto)


def test_a_local_function_does_not_pass_as_an_operator() -> None:
    """ARITHMETIC 66: onnxruntime runs evil.Relu as Neg."""
    proto = small()
    proto.opset_import.append(helper.make_opsetid("evil", 1))
    proto.functions.append(helper.make_function("evil", "Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 13)]))
    proto.graph.node[1].domain = "evil"
    data = proto.SerializeToString()
    x = np.linspace(-1, 1, 2, dtype=np.float32).reshape(1, 2)
    (expected,) = onnxruntime.InferenceSession(data).run(None, {"x": x})
    network = read(proto)
    assert np.allclose(evaluate(network, [x])[network.outputs[0]], expected.reshape(-1))
    assert network.sites == {}
    proto.ClearField("functions")
    assert "evil.Relu" in refused(proto)
    proto.graph.node[1].domain = "ai.onnx"
    assert read(proto)
    proto.graph.node[1].overload = "o"
    assert "Relu" in refused(proto)


def _one(kind: str, shape: tuple[int, ...] = (1, 4), opset: int = 13, more: dict[str, Any] | None = None, **attributes: Any) -> bytes:
    """One operator on x and the constants `more`, an empty name for None."""
    weights = {name: value for name, value in (more or {}).items() if value is not None}
    names = [name if value is not None else "" for name, value in (more or {}).items()]
    return model([node(kind, ["x", *names], **attributes)], {"x": shape}, weights=weights, opset=opset)


def _cast(to: int, name: str) -> onnx.NodeProto:
    return node("Cast", ["x"], [name], to=to)


ONES = np.ones(2, np.float32)
STATISTICS = {"s": ONES, "b": ONES, "m": ONES, "v": ONES}
IMAGE = (1, 2, 4, 4)
OPERATORS: list[tuple[str, bytes, str]] = [
    ("an operator without a rule", _one("Bernoulli", opset=15), "Bernoulli"),
    ("no operator of the standard", _one("Nonsense"), "Nonsense"),
    ("an operator newer than its operator set", _one("Softplus", opset=7).replace(b"Softplus", b"Bernoull"), "Bernoull"),
    ("an operator that did not exist yet", _one("Erf", opset=8), "operator set 8"),
    ("an operator that is no longer", _one("Upsample", IMAGE, 10, {"s": np.ones(4, np.float32)}), "Upsample"),
    ("too many inputs", _one("Relu", more={"w": floats(4)}), "with 2 inputs"),
    ("too few inputs", model([node("Add", ["x"])], {"x": [1, 4]}), "with 1 inputs"),
    ("a required input left out", model([node("Add", ["x", ""])], {"x": [1, 4]}), "input 1 is missing"),
    ("an unknown attribute", _one("Relu", alpha=0.1), "attribute 'alpha'"),
    ("an attribute of a later version", _one("AveragePool", IMAGE, 7, kernel_shape=[2, 2], dilations=[1, 1]), "'dilations'"),
    ("an attribute of an earlier version", _one("Clip", opset=11, min=0.0), "attribute 'min'"),
    ("an attribute of the wrong type", _one("LeakyRelu", alpha=1), "'alpha' of type 2"),
    ("a list for a number", _one("Concat", axis=[1]), "'axis' of type 7"),
    ("a required attribute missing", _one("Concat"), "['axis'] missing"),
    ("an axis out of range", _one("Softmax", axis=2), "axis 2"),
    ("a flag that is neither 0 nor 1", _one("Gemm", more={"w": floats(4, 3)}, transB=2), "transB is 2"),
    ("a NaN slope", _one("LeakyRelu", alpha=float("nan")), "attribute alpha"),
    ("an infinite slope", _one("LeakyRelu", alpha=float("inf")), "attribute alpha"),
    ("an infinite factor", _one("Gemm", more={"w": floats(4, 3)}, alpha=float("inf")), "attribute alpha"),
    ("an infinite factor of the bias", _one("Gemm", more={"w": floats(4, 3), "c": floats(3)}, beta=float("-inf")), "attribute beta"),
    ("a NaN limit", _one("Clip", opset=7, min=float("nan")), "attribute min"),
    ("limits that exclude each other, as attributes", _one("Clip", opset=7, min=1.0, max=0.0), "limits [1.0, 0.0]"),
    ("limits of several numbers", _one("Clip", more={"l": np.zeros(4, np.float32)}), "Clip"),
    ("storage order", model([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2], storage_order=2)], {"x": IMAGE}), "storage_order"),
    ("a mask", model([node("Dropout", ["x"], ["y", "m"])], {"x": [1, 4]}, opset=10), "a mask"),
    ("statistics", model([node("BatchNormalization", ["x", *STATISTICS], ["y", "a", "c"])], {"x": IMAGE}, weights=STATISTICS, opset=9),
        "more than the first output"),
    ("training", _one("BatchNormalization", IMAGE, 15, STATISTICS, training_mode=1), "training"),
    ("statistics of every position", _one("BatchNormalization", IMAGE, 7, STATISTICS, spatial=0), "spatial"),
    ("a variance that is negative", _one("BatchNormalization", IMAGE, 15, {**STATISTICS, "v": -ONES}), "variance"),
    ("an infinite epsilon", _one("BatchNormalization", IMAGE, 15, STATISTICS, epsilon=float("inf")), "attribute epsilon"),
    ("dropping out", _one("Dropout", more={"r": np.float32(0.5), "t": np.bool_(True)}), "training"),
    ("division by a constant 0", _one("Div", more={"w": np.array([1, 0, 1, 1], np.float32)}), "division by 0"),
    ("many exponents", _one("Pow", more={"p": np.arange(300, dtype=np.float32).reshape(75, 4)}), "300 exponents"),
    ("a variable exponent", model([node("Pow", ["w", "x"])], {"x": [1, 4]}, weights={"w": ONES[:1]}), "Pow"),
    ("a variable shape", model([node("Reshape", ["w", "x"])], {"x": [4]}, weights={"w": ONES}), "Reshape"),
    ("allowzero with a 0", _one("Reshape", opset=14, more={"s": np.array([0, 4])}, allowzero=1), "allowzero"),
    ("a shape of another size", _one("Reshape", more={"s": np.array([3, 2])}), "for 4 elements"),
    ("two axes that are what is left", _one("Reshape", more={"s": np.array([-1, -1])}), "Reshape"),
    ("an index out of range", _one("Gather", more={"i": np.array([4])}, axis=1), "an index past 4"),
    ("a negative index before version 11", _one("Gather", opset=10, more={"i": np.array([-1])}, axis=1), "an index past 4"),
    ("an unknown interpolation", _one("Resize", IMAGE, more={"r": None, "s": np.array([1, 1, 2, 2], np.float32)}, mode="quintic"), "quintic"),
    ("a wide pad by reflection", _one("Pad", opset=11, more={"p": np.array([0, 4, 0, 0])}, mode="reflect"), "reflect"),
    ("an infinite filling", _one("Pad", opset=7, pads=[0, 1, 0, 0], value=float("inf")), "Pad"),
    ("nothing left", _one("Slice", more={"a": np.array([2]), "b": np.array([2]), "c": np.array([1])}), "shape"),
    ("a step of 0", _one("Slice", more={"a": np.array([0]), "b": np.array([2]), "c": np.array([1]), "d": np.array([0])}), "steps (0,)"),
    ("weights that vary", model([node("Conv", ["w", "x"])], {"x": [1, 1, 2, 2]}, weights={"w": floats(1, 1, 4, 4)}), "not a constant"),
    ("a bias of another size", _one("Conv", IMAGE, more={"w": floats(3, 2, 2, 2), "b": floats(2)}), "bias of shape (2,)"),
    ("a kernel larger than the input", _one("Conv", IMAGE, more={"w": floats(3, 2, 5, 5)}), "larger than the input"),
    ("a kernel_shape that is not the weight's", _one("Conv", IMAGE, more={"w": floats(3, 2, 2, 2)}, kernel_shape=[3, 3]), "kernel_shape"),
    ("strides of 0", _one("Conv", IMAGE, more={"w": floats(3, 2, 2, 2)}, strides=[0, 1]), "strides"),
    ("negative pads", _one("MaxPool", IMAGE, kernel_shape=[2, 2], pads=[-1, 0, 0, 0]), "pads"),
    ("another auto_pad", _one("MaxPool", IMAGE, kernel_shape=[2, 2], auto_pad="SOME"), "auto_pad"),
    ("windows of padding only", _one("MaxPool", IMAGE, kernel_shape=[1, 1], pads=[1, 1, 1, 1]), "padding only"),
    ("shapes that do not fit", _one("Add", more={"w": floats(3)}), "do not fit together"),
    ("matrices that do not fit", _one("MatMul", more={"w": floats(3, 2)}), "shapes (1, 4) and (3, 2)"),
    ("small integers on the data path", model([node("Cast", ["x"], ["i"], to=2), node("Cast", ["i"], to=1)], {"x": [1, 4]}), "another type"),
    ("arithmetic of integers that vary", model([_cast(7, "i"), node("Abs", ["i"], ["j"]), node("Cast", ["j"], to=1)], {"x": [1, 4]}), "of int64"),
    ("division of integers that vary", model([_cast(7, "i"), node("Div", ["i", "k"], ["j"]), node("Cast", ["j"], to=1)], {"x": [1, 4]},
        weights={"k": np.array([2])}), "of int64"),
    ("halves on the data path", model([node("Cast", ["x"], ["i"], to=10), node("Cast", ["i"], to=1)], {"x": [1, 4]}), "another type"),
    ("a remainder of a division by 0", _one("Mod", more={"w": np.float32([1, 0, 1, 1])}, fmod=1), "division by 0"),
    ("an odd place to cut off", _one("ConvTranspose", (1, 1, 3), more={"w": floats(1, 1, 2)}, output_shape=[3]), "places to cut off"),
    ("a step function of integers that vary", model([_cast(7, "i"), node("Floor", ["i"], ["j"]), node("Cast", ["j"], to=1)], {"x": [1, 4]}),
        "of int64"),
    ("a function of a comparison", model([node("Greater", ["x", "w"], ["c"]), node("Relu", ["c"])], {"x": [1, 4]}, weights={"w": floats(4)}),
        "of bool"),
    ("places that a comparison chooses", model([node("NonZero", ["x"], ["i"]), node("Cast", ["i"], to=1)], {"x": [1, 4]}), "constants only"),
    ("an integer output", model([node("Shape", ["x"])], {"x": [1, 4]}), "int64"),
    ("an integer overflow", model([node("Mul", ["i", "i"], ["j"]), node("Reshape", ["x", "j"])], {"x": [4]}, weights={"i": np.array([2**62])}),
        "overflow"),
    ("a constant of NaN", model([node("Constant", [], ["c"], value_float=float("nan")), node("Add", ["x", "c"])], {"x": [4]}), "NaN"),
    ("a constant of two values", model([node("Constant", [], ["c"], value_float=1.0, value_int=1), node("Add", ["x", "c"])], {"x": [4]}),
        "one value"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "why"), [pytest.param(data, why, id=name) for name, data, why in OPERATORS])
def test_operators_that_are_refused(data: bytes, why: str) -> None:
    assert why in refused(data)


def test_steps_comparisons_and_integers_that_vary_are_read() -> None:
    """As jumps at sites of their own: what the refusals above are near to."""
    for steps, sites in (
        ([node("Floor", ["x"])], 1),
        ([node("Greater", ["x", "w"], ["c"]), node("Cast", ["c"], to=1)], 1),
        ([_cast(7, "i"), node("Cast", ["i"], to=1)], 4),
    ):
        weights = {"w": floats(4)} if "w" in steps[0].input else {}
        network, x = read_model.read(model(steps, {"x": [1, 4]}, weights=weights)), np.array([-1.75, -0.25, 0.5, 2.0])
        expected = {"Floor": np.floor(x), "Greater": x > floats(4), "Cast": np.trunc(x)}[steps[0].op_type]
        assert len(network.sites) == sites and evaluate(network, [x])[network.outputs[0]].ravel().tolist() == expected.tolist()


def test_subgraphs_that_are_refused() -> None:
    """A condition that is not known, a name that hides another, a tensor that no one makes; a sub-graph of what has none."""
    branch = helper.make_graph([node("Relu", ["x"], ["r"])], "branch", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)])
    step = node("If", ["c"], then_branch=branch, else_branch=branch)
    unknown = node("If", ["x"], then_branch=branch, else_branch=branch)
    assert "condition" in refused(model([unknown], {"x": [1, 1]}))
    assert "makes ['r']" in refused(model([node("Neg", ["x"], ["r"]), step], {"x": [1, 4]}, weights={"c": np.bool_(True)}))
    assert "reads ['x']" in refused(model([step], {"z": [1, 4]}, weights={"c": np.bool_(True)}))
    taken = [node("Tanh", ["x"], ["y/r"]), step]
    assert "two operators" in refused(model(taken, {"x": [1, 4]}, ["y/r", "y"], {"c": np.bool_(True)}))
    assert "attribute 'graph'" in refused(_one("Relu", graph=branch))


def _attribute(m: onnx.ModelProto) -> onnx.AttributeProto:
    return m.graph.node[0].attribute[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda m: m.graph.node[0].attribute.append(_attribute(m)), "given twice", id="twice"),
        pytest.param(lambda m: setattr(_attribute(m), "i", 3), "with ['i']", id="two fields"),
        pytest.param(lambda m: _attribute(m).floats.append(1.0), "with ['floats']", id="a list as well"),
        pytest.param(lambda m: setattr(_attribute(m), "ref_attr_name", "a"), "with ['ref_attr_name']", id="a reference"),
        pytest.param(lambda m: _attribute(m).ClearField("type"), "of type 0", id="no type"),
        pytest.param(lambda m: setattr(_attribute(m), "name", "Alpha"), "'Alpha'", id="another case"),
    ],
)
def test_attributes_that_are_refused(change: Change, why: str) -> None:
    proto = onnx.ModelProto.FromString(_one("LeakyRelu", alpha=0.25))
    assert read(proto)
    change(proto)
    assert why in refused(proto)


def test_what_no_output_needs_is_not_read() -> None:
    proto = small()
    proto.graph.node.append(node("Hardmax", ["z"], ["unused"]))
    assert len(read(proto).nodes) == 3


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(9)]
    data = model(chain, {"t0": [1, 4]}, outputs=["t9"])
    assert len(read_model.read(data).nodes) == 10
    monkeypatch.setattr(builder, "MOST_NODES", 9)
    assert "more than 9 core nodes" in refused(data)
    huge = {"s": np.array([1 << 20, 1 << 20])}
    assert "Expand" in refused(_one("Expand", (1, 1), more=huge))
    assert "Tile" in refused(_one("Tile", (1, 1), more=huge))
    assert "Pad" in refused(_one("Pad", (1, 1), 11, {"p": np.array([0, 0, 1 << 30, 1 << 30])}))
    assert "ConstantOfShape" in refused(model([node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"])], {"x": [1]}, weights=huge))
    ends = {"a": np.int64(0), "b": np.int64(1 << 40), "c": np.int64(1)}
    assert "Range" in refused(model([node("Range", [*ends], ["r"]), node("Gather", ["x", "r"])], {"x": [4]}, weights=ends))


def test_names_are_text() -> None:
    data = small().SerializeToString()
    for name in (b"\x01x", b"\x01y", b"\x01w", b"\x01z", b"Relu", b"the_Relu_y"):
        assert name in data
        assert "UTF-8" in refused(data.replace(name, name[:-1] + b"\xff"))


def test_names_stay_data() -> None:
    """A name with a newline is quoted in the place of a refusal."""
    proto = small()
    proto.graph.node[1].op_type = "x\nACCEPTED"
    assert "\n" not in refused(proto)
    proto.graph.node[1].op_type, proto.graph.node[1].name = "Bernoulli", "x\nACCEPTED {}"
    assert "\n" not in refused(proto)


SEEDS = [
    small().SerializeToString(),
    _one("Conv", IMAGE, more={"w": floats(3, 2, 2, 2), "b": floats(3)}, strides=[1, 2], pads=[1, 1, 0, 0]),
    _one("BatchNormalization", IMAGE, 15, STATISTICS),
    _one("Slice", more={"a": np.array([1]), "b": np.array([3]), "c": np.array([1])}),
]


@settings(max_examples=examples(400))
@given(st.sampled_from(SEEDS), st.data())
def test_any_bytes_are_read_or_refused(data: bytes, draw: st.DataObject) -> None:
    """Bytes changed, dropped or put in: a Network or Rejected, and nothing else."""
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(changed) - 1))
        match draw.draw(st.sampled_from(["set", "drop", "insert", "cut"])):
            case "set":
                changed[at] = draw.draw(st.integers(0, 255))
            case "drop":
                del changed[at]
            case "insert":
                changed.insert(at, draw.draw(st.integers(0, 255)))
            case _:
                del changed[at + 1 :]
        if not changed:
            changed.append(0)
    try:
        network = read_model.read(bytes(changed))
    except Rejected:
        return
    assert len(network.nodes) > 0 and all(j < i for i, n in enumerate(network.nodes) for j in n.inputs)
