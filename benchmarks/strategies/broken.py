"""Broken files: texts of properties and bytes of models, from good ones by small changes. For readers that must refuse, and never fall over."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import onnx
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

TOKEN = re.compile(r"[()\[\]]|;[^\n]*|[^\s()\[\]]+|\s+")
NUMBER = re.compile(r"-?[0-9]+\.[0-9]+")
WORDS = (
    *"( ) [ ] assert and or not <= >= < > == != + - * / declare-const declare-network declare-input declare-output declare-hidden".split(),
    *"vnnlib-version <2.0> equal-to isomorphic-to Real float32 float64 int8 X_0 X_1 Y_0 X Y f X[0,0] Y[0,1]".split(),
    *"0.0 -1.0 1 1e9 1e-400 0x1p3 nan -inf +1 .5 1. -0.0 ; | \" \\ , \u0661 \ufeff".split(),
)
GOOD = (
    """(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (>= X_0 -1.0)) (assert (<= X_0 1.0))
(assert (>= X_1 0.25)) (assert (<= X_1 0.75)) ; a box
(assert (or (and (<= Y_0 0.0) (>= X_0 0.5)) (and (>= (+ Y_0 (* 2.0 X_1)) 3.0))))
""",
    """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1, 2]) (declare-output Y float32 [1, 2]))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 1.0)))
(assert (or (<= Y[0,0] Y[0,1]) (> (- Y[0,0] (* 2.0 X[0,1])) 3.0)))
""",
    """(vnnlib-version <2.0>)
(declare-network f
  (declare-input A real [2]) (declare-input B real [1]) (declare-hidden H real [1] "h") (declare-output Y real [1]))
(declare-network g (equal-to f) (declare-input C real [2]) (declare-input D real [1]) (declare-output Z real [1]))
(assert (and (>= A[0] 0.0) (<= A[0] 1.0) (== A[1] 0.5) (== B[0] 0.0)))
(assert (!= Y[0] Z[0]))
""",
)


@st.composite
def property_texts(draw: st.DrawFn) -> str:
    """A good text after up to four changes: a number or a token replaced, left out, doubled or swapped, other characters, the text cut."""
    tokens = TOKEN.findall(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(tokens) - 1, 0)))
        numbers = [k for k, token in enumerate(tokens) if NUMBER.fullmatch(token)]
        match draw(st.sampled_from("number number number alike drop double swap word character cut wrap".split())):
            case "number" if numbers:
                tokens[draw(st.sampled_from(numbers))] = draw(st.decimals(-9, 9, places=2).map(str))
            case "alike" if tokens:
                tokens[at] = draw(st.sampled_from(tokens))
            case "drop":
                del tokens[at : at + draw(st.integers(1, 3))]
            case "double":
                tokens[at:at] = tokens[at : at + draw(st.integers(1, 12))]
            case "swap":
                other = draw(st.integers(0, max(len(tokens) - 1, 0)))
                tokens[at : at + 1], tokens[other : other + 1] = tokens[other : other + 1], tokens[at : at + 1]
            case "word":
                tokens[at : at + 1] = [draw(st.sampled_from(WORDS))]
            case "character":
                tokens[at : at + 1] = [draw(st.text(max_size=3))]
            case "cut":
                tokens = tokens[:at]
            case _:
                tokens[at:at] = ["("] * draw(st.integers(1, 50))
    return "".join(tokens)


# ---------------------------------------------------------------- models

Change = Callable[[onnx.ModelProto, random.Random], None]
NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 64, 2**31 - 1, 2**31, 2**40, 2**63 - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
SMALL = 1 << 16  # bytes of a model


def broken_model(data: bytes, draw: random.Random) -> bytes:
    """The model after one to four changes of its structure; what is no model comes back as it is."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return data
    for _ in range(draw.randint(1, 4)):
        draw.choice(CHANGES)(model, draw)
    return bytes(model.SerializeToString())


def _node(model: onnx.ModelProto, draw: random.Random) -> onnx.NodeProto:
    return draw.choice(model.graph.node) if model.graph.node else model.graph.node.add()


def _names(model: onnx.ModelProto) -> list[str]:
    g = model.graph
    found = [name for node in g.node for name in (*node.input, *node.output)]
    found += [t.name for t in (*g.initializer, *g.input, *g.output)]
    return [*(name for name in found if isinstance(name, str)), "", "nowhere"]  # protobuf gives bytes for what is no UTF-8


def _rename_input(model: onnx.ModelProto, draw: random.Random) -> None:
    node = _node(model, draw)
    if node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(_names(model))


def _rename_output(model: onnx.ModelProto, draw: random.Random) -> None:
    node = _node(model, draw)
    if node.output:
        node.output[draw.randrange(len(node.output))] = draw.choice(_names(model))


def _operator(model: onnx.ModelProto, draw: random.Random) -> None:
    _node(model, draw).op_type = draw.choice(OPERATORS)


def _more_inputs(model: onnx.ModelProto, draw: random.Random) -> None:
    node = _node(model, draw)
    if draw.random() < 0.5 or not node.input:
        node.input.append(draw.choice(_names(model)))
    else:
        del node.input[-1]


def _order(model: onnx.ModelProto, draw: random.Random) -> None:
    nodes = list(model.graph.node)
    draw.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _remove(model: onnx.ModelProto, draw: random.Random) -> None:
    parts = draw.choice([model.graph.node, model.graph.initializer, model.graph.input, model.graph.output, model.opset_import])
    if parts:
        del parts[draw.randrange(len(parts))]


def _double(model: onnx.ModelProto, draw: random.Random) -> None:
    parts = draw.choice([model.graph.node, model.graph.initializer, model.graph.input, model.graph.output, model.opset_import])
    if parts:
        parts.append(draw.choice(parts))


def _attribute(model: onnx.ModelProto, draw: random.Random) -> None:
    node = _node(model, draw)
    schema = next((s for s in SCHEMAS if s.name == node.op_type), None)
    names = [*(a.name for a in node.attribute), *(schema.attributes if schema else ()), "alpha"]
    name = draw.choice(names)
    values = (
        draw.choice(NUMBERS), draw.choice(REALS), draw.choice(("", "SAME_UPPER", "linear", "x")),
        [draw.choice(NUMBERS) for _ in range(draw.randint(1, 4))], [draw.choice(REALS) for _ in range(draw.randint(1, 3))],
    )
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, draw.choice(values))])


def _tensor(model: onnx.ModelProto, draw: random.Random) -> None:
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    if not tensors:
        return
    tensor = draw.choice(tensors)
    match draw.choice("dims type data location".split()):
        case "dims":
            dims = [draw.choice(NUMBERS) for _ in range(draw.randint(0, 4))]
            del tensor.dims[:]
            tensor.dims.extend(dims)
        case "type":
            tensor.data_type = draw.randint(0, 25)
        case "data":
            tensor.raw_data = draw.randbytes(draw.choice((0, 1, 4, 8, 16, 100)))
        case _:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key=draw.choice(("location", "offset", "length")), value=draw.choice(("m.onnx", "../x", "-1", "1e9", "")))


def _shape(model: onnx.ModelProto, draw: random.Random) -> None:
    ends = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if not ends:
        return
    tensor = draw.choice(ends).type.tensor_type
    if draw.random() < 0.3:
        tensor.elem_type = draw.randint(0, 25)
    elif tensor.shape.dim:
        draw.choice(tensor.shape.dim).dim_value = draw.choice(NUMBERS)
    else:
        tensor.shape.dim.add(dim_value=draw.choice(NUMBERS))


def _version(model: onnx.ModelProto, draw: random.Random) -> None:
    if draw.random() < 0.2:
        model.ir_version = draw.choice(NUMBERS)
    for entry in model.opset_import:
        entry.version = draw.choice((*range(1, 30), *NUMBERS))


SCHEMAS = onnx.defs.get_all_schemas()
OPERATORS = tuple(sorted({schema.name for schema in SCHEMAS if schema.domain == ""}))
CHANGES: Sequence[Change] = (
    _rename_input, _rename_output, _operator, _more_inputs, _order, _remove, _double, _attribute, _attribute, _tensor, _tensor, _shape, _version,
)
