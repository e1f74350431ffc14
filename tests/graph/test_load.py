"""Files that are wrong, in every way the standard allows and a few it does not: a ModelError that names the place, nothing else."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import floats, model, node
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from graph.errors import ModelError, UnsupportedOperator
from graph.load import Limits, load
from graph.selfcheck import compare
from graph.specialise import specialise
from tests.effort import examples

GOOD = model([node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"])], {"x": ("n", 3)}, weights={"w": floats(3, 4)})


def edited(change: Any, content: bytes = GOOD) -> bytes:
    proto = onnx.ModelProto.FromString(content)
    change(proto)
    return proto.SerializeToString()


def test_a_good_model_in_every_wrapping(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "m.onnx", tmp_path / "m.onnx.gz"
    plain.write_bytes(GOOD)
    zipped.write_bytes(gzip.compress(GOOD))
    models = [load(plain), load(str(zipped)), load(GOOD), load(gzip.compress(GOOD))]
    assert len({m.sha256 for m in models}) == 1 and models[0].path == plain
    for m in models:
        assert m.inputs[0].shape == (1, 3) and m.outputs[0].shape == (1, 4) and m.opset == 13
        assert m.notes == ("symbolic batch dimension 'n' of input 'x' set to 1",)
        compare(m, [[floats(3)]])


def test_duplicate_and_unused_opset_imports_are_fine() -> None:
    load(edited(lambda p: p.opset_import.extend([helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 2)])))


def test_an_initialiser_among_the_inputs_is_an_initialiser() -> None:
    content = edited(lambda p: p.graph.input.append(helper.make_tensor_value_info("w", 1, [3, 4])))
    assert [i.name for i in load(content).inputs] == ["x"]


def test_unused_bad_tensors_and_nodes_do_no_harm() -> None:
    def change(p: Any) -> None:
        p.graph.initializer.append(onnx.numpy_helper.from_array(np.array([np.nan], np.float32), "unused"))
        p.graph.node.append(helper.make_node("Det", ["h"], ["dead"]))

    assert len(load(edited(change)).graph.nodes) == 3


def damaged_weight(p: Any) -> None:
    p.graph.initializer[0].raw_data = p.graph.initializer[0].raw_data[:-3]


def nan_weight(p: Any) -> None:
    p.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full((3, 4), np.nan, np.float32), "w"))


def infinite_constant(p: Any) -> None:
    tensor = onnx.numpy_helper.from_array(np.array([np.inf], np.float32))
    p.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
    p.graph.node.append(helper.make_node("Add", ["y", "c"], ["z"]))
    p.graph.output[0].name = "z"


def integer_input(p: Any) -> None:
    p.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def dynamic_feature(p: Any) -> None:
    p.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value")


BAD = {
    "no graph": (lambda p: p.ClearField("graph"), "no graph"),
    "no opset": (lambda p: p.ClearField("opset_import"), "0 versions"),
    "two opsets": (lambda p: p.opset_import.append(helper.make_opsetid("", 12)), "2 versions"),
    "old opset": (lambda p: p.opset_import[0].CopyFrom(helper.make_opsetid("", 6)), "opset 6"),
    "future opset": (lambda p: p.opset_import[0].CopyFrom(helper.make_opsetid("", 900)), "opset 900"),
    "unknown operator": (lambda p: setattr(p.graph.node[1], "op_type", "Reul"), "Reul"),
    "foreign domain": (lambda p: setattr(p.graph.node[1], "domain", "evil"), "evil.Relu"),
    "local function": (lambda p: p.functions.extend([helper.make_function("evil", "Relu", ["x"], ["y"], [], [])] * 2), "same domain"),
    "damaged weight": (damaged_weight, "'w'"),
    "negative dimension": (lambda p: p.graph.initializer[0].dims.__setitem__(0, -3), "negative"),
    "endless dimension beside none": (lambda p: p.graph.initializer[0].dims.extend([0, 1 << 62, 4]), "more than"),
    "wrong dimension": (lambda p: p.graph.initializer[0].dims.__setitem__(0, 2), "elements"),
    "string weight": (lambda p: setattr(p.graph.initializer[0], "data_type", TensorProto.STRING), "STRING"),
    "half weight": (lambda p: setattr(p.graph.initializer[0], "data_type", TensorProto.BFLOAT16), "BFLOAT16"),
    "nan weight": (nan_weight, "NaN"),
    "infinite constant": (infinite_constant, "NaN or Inf"),
    "integer input": (integer_input, "INT64"),
    "no input type": (lambda p: p.graph.input[0].ClearField("type"), "element type"),
    "no input shape": (lambda p: p.graph.input[0].type.tensor_type.ClearField("shape"), "no shape"),
    "dynamic feature": (dynamic_feature, "dynamic"),
    "no input": (lambda p: p.graph.ClearField("input"), "no input"),
    "two inputs of a name": (lambda p: p.graph.input.append(p.graph.input[0]), "two inputs"),
    "two weights of a name": (lambda p: p.graph.initializer.append(p.graph.initializer[0]), "same name"),
    "missing tensor": (lambda p: p.graph.node[1].input.__setitem__(0, "ghost"), "ghost"),
    "nodes out of order": (lambda p: p.graph.node.insert(0, p.graph.node[1]), "'h'"),
    "defined twice": (lambda p: p.graph.node.insert(1, p.graph.node[0]), "twice"),
    "missing output": (lambda p: setattr(p.graph.output[0], "name", "ghost"), "ghost"),
    "shapes that do not fit": (lambda p: p.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 5), "multiplied"),
    "too many inputs": (lambda p: p.graph.node[1].input.append("x"), "takes 1 to 1"),
    "unknown attribute": (lambda p: p.graph.node[1].attribute.append(helper.make_attribute("slope", 1.0)), "slope"),
    "global pool without an image": (lambda p: setattr(p.graph.node[1], "op_type", "GlobalMaxPool"), "spatial axes"),
    "integer output": (lambda p: (p.graph.node.append(helper.make_node("Shape", ["y"], ["s"])), setattr(p.graph.output[0], "name", "s")), "int64"),
}


@pytest.mark.parametrize(("change", "words"), BAD.values(), ids=BAD)
def test_bad_models_are_refused_with_a_reason(change: Any, words: str) -> None:
    with pytest.raises(ModelError) as error:
        load(edited(change))
    assert words in str(error.value)


def test_unsupported_operators_say_where_what_is_supported_is_listed() -> None:
    with pytest.raises(UnsupportedOperator, match=r"Supported are: what `soundproof supports --onnx-operators` lists$") as error:
        load(edited(BAD["unknown operator"][0]))
    assert "the_Relu_y" in str(error.value) and "opset 13" in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            load(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is no model", b"\x1f\x8b", gzip.compress(GOOD)[:-9], gzip.compress(GOOD)[:30], GOOD[:-1], GOOD[:40]]
)
def test_truncated_and_foreign_bytes(content: bytes) -> None:
    with pytest.raises(ModelError):
        load(content)


def test_limits() -> None:
    for limits, words in (
        (Limits(decompressed_bytes=50), "50 bytes"),
        (Limits(tensor_elements=5), "5 elements"),
        (Limits(core_nodes=2), "2 core nodes"),
    ):
        with pytest.raises(ModelError, match=words):
            load(gzip.compress(GOOD), limits=limits)


@pytest.mark.parametrize(
    ("kind", "operands", "weights"),
    [
        ("ConstantOfShape", ["s"], {"s": np.array([10**6, 10**6])}),
        ("Expand", ["x", "s"], {"s": np.array([10**6, 10**6, 1, 1])}),
        ("Tile", ["x", "s"], {"s": np.array([10**6, 10**6])}),
        ("Pad", ["x", "s"], {"s": np.array([10**9, 10**9, 10**9, 10**9])}),
        ("Resize", ["x", "", "s"], {"s": np.array([1e7, 1e7], np.float32)}),
        ("Gather", ["w", "i"], {"w": np.zeros((1, 60_000), np.float32), "i": np.zeros(60_000, np.int64)}),
        ("Add", ["a", "b"], {"a": np.zeros((60_000, 1), np.float32), "b": np.zeros((1, 60_000), np.float32)}),
        ("MatMul", ["a", "b"], {"a": np.zeros((60_000, 1), np.float32), "b": np.zeros((1, 60_000), np.float32)}),
    ],
)
def test_operators_that_blow_up_are_refused_before_they_allocate(kind: str, operands: list[str], weights: dict[str, Any]) -> None:
    nodes = [node(kind, operands, ["h"]), node("Add", ["h", "x"])]
    with pytest.raises(ModelError):
        load(model(nodes, {"x": (2, 2)}, weights=weights))


def external(folder: Path, location: str, **entries: str) -> Path:
    proto = onnx.ModelProto.FromString(GOOD)
    tensor = proto.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    folder.mkdir(exist_ok=True)
    (folder / "w.bin").write_bytes(b"pad!" + raw)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def test_external_data(tmp_path: Path) -> None:
    loaded = load(external(tmp_path / "m", "w.bin", offset="4", length="48"))
    np.testing.assert_array_equal(loaded.lowered.nodes[1].maps[0].weight.T, floats(3, 4))  # type: ignore[attr-defined]
    assert loaded.external[0][0] == "w.bin" and len(loaded.external[0][1]) == 64
    own = hashlib.sha256((tmp_path / "m" / "m.onnx").read_bytes()).hexdigest()
    assert loaded.sha256 == hashlib.sha256((own + loaded.external[0][1]).encode()).hexdigest()
    compare(loaded, [[floats(3)]])


@pytest.mark.parametrize(
    ("location", "entries", "words"),
    [
        ("../secret.bin", {}, "outside"),
        ("/etc/passwd", {}, "outside"),
        ("link.bin", {}, "outside"),
        ("gone.bin", {}, "cannot be read"),
        ("", {}, "outside|cannot be read"),
        ("w.bin", {"offset": "8"}, "has 52 bytes"),
        ("w.bin", {"offset": "-4"}, "offset -4"),
        ("w.bin", {"offset": "x"}, "not a number"),
        ("w.bin", {"length": "4"}, "declared 4"),
    ],
)
def test_bad_external_data(tmp_path: Path, location: str, entries: dict[str, str], words: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    path = external(tmp_path / "m", location, **entries)
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match=words):
        load(path)


def test_a_specialised_file_holds_its_external_data(tmp_path: Path) -> None:
    path = external(tmp_path / "m", "w.bin", offset="4", length="48")
    alone = load(specialise(path, [load(path).outputs[0].name], {}))
    assert alone.external == ()
    np.testing.assert_array_equal(alone.lowered.nodes[1].maps[0].weight.T, floats(3, 4))  # type: ignore[attr-defined]


def test_external_data_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="folder"):
        load(external(tmp_path / "m", "w.bin", offset="4").read_bytes())


FUZZED = model(
    [
        node("Conv", ["x", "k", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        node("Shape", ["p"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["n"]),
        node("Concat", ["n", "rest"], ["t"], axis=0),
        node("Reshape", ["p", "t"], ["f"]),
        node("Gemm", ["f", "w"], ["g"], alpha=0.5),
        node("Softmax", ["g"], ["y"], axis=-1),
    ],
    {"x": (1, 1, 4, 4)},
    weights={"k": floats(2, 1, 3, 3), "b": floats(2), "w": floats(2, 3), "zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])},
)


@given(st.data())
@settings(max_examples=examples(300))
def test_mutated_bytes_raise_nothing_but_model_errors(data: st.DataObject) -> None:
    content = bytearray(FUZZED)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), len(content), len(content) // 2, len(content) - 7]))]
    try:
        load(bytes(content), limits=Limits(tensor_elements=10**6))
    except ModelError as error:
        assert str(error)


def test_a_name_that_is_no_text_is_refused() -> None:
    """Found by the fuzzer: protobuf gives such a name out as bytes."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["output_1"])], "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("output_1", onnx.TensorProto.FLOAT, [2])],
    )
    data = onnx.helper.make_model(graph).SerializeToString()
    with pytest.raises(ModelError, match="not UTF-8"):
        load(data.replace(b"output_1", b"output_\x88"))
