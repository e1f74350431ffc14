"""A corpus of malformed models and properties, each with what the error must say.

    python -m tests.bad_input.make FOLDER        writes them all, to look at or to try on another verifier
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Build = Callable[[], bytes]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def tensor(name: str, kind: int = FLOAT, shape: Sequence[int | str | None] | None = (1, 2)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def proto(nodes: Sequence[onnx.NodeProto] | None = None, weights: dict[str, Any] | None = None, **changes: Any) -> onnx.ModelProto:
    """y = relu(W x + b) of two numbers, with other nodes, weights, inputs, outputs or opset."""
    nodes = [node("Gemm", ["x", "w", "b"], ["z"], transB=1), node("Relu", ["z"], ["y"])] if nodes is None else nodes
    values = {"w": np.eye(2, dtype=np.float32), "b": np.zeros(2, np.float32)} | (weights or {})
    stored = [value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(list(nodes), "g", changes.get("inputs", [tensor("x")]), changes.get("outputs", [tensor("y")]), stored)
    opsets = [helper.make_opsetid(domain, version) for domain, version in changes.get("opsets", [("", 17)])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), list(outputs), f"the_{kind}", **attributes)


def model(*arguments: Any, **changes: Any) -> Build:
    return lambda: proto(*arguments, **changes).SerializeToString()


def one(kind: str, *others: str, weights: dict[str, Any] | None = None, **attributes: Any) -> Build:
    """x -> y by one node, whose other inputs are `others`."""
    return model([node(kind, ["x", *others], **attributes)], weights)


def changed(change: Callable[[onnx.ModelProto], Any]) -> Build:
    """The good model after `change`."""

    def build() -> bytes:
        good = proto()
        change(good)
        return good.SerializeToString()

    return build


def raw(name: str, kind: int, dims: Sequence[int], data: bytes) -> onnx.TensorProto:
    return onnx.TensorProto(name=name, data_type=kind, dims=dims, raw_data=data)


def external(entries: dict[str, str]) -> onnx.TensorProto:
    found = onnx.TensorProto(name="w", data_type=FLOAT, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        found.external_data.add(key=key, value=value)
    return found


def sparse(m: onnx.ModelProto) -> None:
    values, indices = helper.make_tensor("s", FLOAT, [1], [1.0]), helper.make_tensor("i", INT64, [1], [0])
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 2]))


def twice_attribute(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("transB", 0))


def loop_of_nodes() -> bytes:
    return proto([node("Add", ["x", "u"], ["z"]), node("Relu", ["z"], ["u"]), node("Relu", ["u"], ["y"])]).SerializeToString()


def deep() -> bytes:
    """A message in a message in a message: what a parser that calls itself does not survive."""
    body = b""
    for _ in range(20_000):
        length = len(body)
        size = b""
        while True:
            size += bytes([length & 127 | (128 if length > 127 else 0)])
            length >>= 7
            if not length:
                break
        body = b"\x3a" + size + body  # field 7: ModelProto.graph, and whatever field 7 is below
    return body


GOOD = proto().SerializeToString()

MODELS: dict[str, tuple[Build, str]] = {
    "empty": (lambda: b"", "no graph"),
    "text": (lambda: b"this is not a network\n", "ONNX"),
    "zeros": (lambda: bytes(1000), "ONNX"),
    "nested": (deep, "ONNX"),
    "truncated": (lambda: GOOD[:-20], "truncated"),
    "cut-gzip": (lambda: gzip.compress(GOOD)[:60], "damaged gzip data"),
    "gzip-of-gzip": (lambda: gzip.compress(gzip.compress(GOOD)), "ONNX"),
    "no-outputs": (model(outputs=[]), "no graph with outputs"),
    "no-inputs": (model(inputs=[], weights={"x": np.ones((1, 2), np.float32)}), "no input"),
    "no-opset": (model(opsets=[]), "names 0 versions"),
    "two-opsets": (model(opsets=[("", 13), ("ai.onnx", 17)]), "names 2 versions"),
    "old-opset": (model(opsets=[("", 6)]), "opset 6 is not supported (7 to"),
    "future-opset": (model(opsets=[("", 9999)]), "opset 9999 is not supported"),
    "negative-opset": (model(opsets=[("", -1)]), "opset -1 is not supported"),
    "training": (changed(lambda m: m.training_info.add()), "training information"),
    "sparse": (changed(sparse), "sparse initialisers"),
    "integer-input": (model(inputs=[tensor("x", INT64)]), "element type INT64"),
    "half-input": (model(inputs=[tensor("x", TensorProto.FLOAT16)]), "element type FLOAT16"),
    "unknown-type": (model(inputs=[tensor("x", 77)]), "element type 77"),
    "shapeless-input": (model(inputs=[tensor("x", shape=None)]), "has no shape"),
    "dynamic-width": (model(inputs=[tensor("x", shape=[1, "width"])]), "axis 1 of input 'x' is dynamic ('width')"),
    "negative-width": (model(inputs=[tensor("x", shape=[1, -2])]), "axis 1 of input 'x'"),
    "huge-input": (model(inputs=[tensor("x", shape=[1, 1 << 40])]), "more than"),
    "two-inputs-one-name": (model(inputs=[tensor("x"), tensor("x")]), "two inputs are called 'x'"),
    "sequence-input": (model(inputs=[helper.make_tensor_sequence_value_info("x", FLOAT, [1, 2])]), "input 'x'"),
    "missing-tensor": (model([node("Relu", ["nowhere"])]), "'nowhere' is neither"),
    "missing-output": (model(outputs=[tensor("nothing")]), "'nothing'"),
    "defined-twice": (model([node("Relu", ["x"]), node("Relu", ["x"])]), "defined twice"),
    "output-is-a-weight": (model([node("Relu", ["x"], ["w"]), node("Relu", ["w"], ["y"])]), "'w'"),
    "cycle": (loop_of_nodes, "'u' is made by a later node"),
    "unknown-operator": (one("Frobnicate"), "operator Frobnicate (opset 17) is not supported"),
    "unknown-domain": (changed(lambda m: setattr(m.graph.node[1], "domain", "org.example")), "org.example.Relu"),
    "operator-of-the-future": (one("Swish"), "Swish"),
    "removed-operator": (one("Upsample", "s", weights={"s": np.ones(2, np.float32)}), "Upsample"),
    "unknown-attribute": (one("Relu", alpha=0.5), "attribute 'alpha' is not defined"),
    "attribute-type": (one("LeakyRelu", alpha="much"), "attribute 'alpha' has the wrong type"),
    "attribute-twice": (changed(twice_attribute), "attribute 'transB' is given twice"),
    "attribute-missing": (model([node("Conv", ["x"], ["y"])]), "inputs"),
    "required-attribute": (one("Concat"), "required attribute 'axis'"),
    "too-many-inputs": (one("Relu", "w"), "2 inputs, but the operator takes 1 to 1"),
    "too-few-inputs": (model([node("Gemm", ["x"])]), "1 inputs, but the operator takes 2 to 3"),
    "empty-name": (model([node("Add", ["x", ""])]), "input 1 is missing"),
    "shapes-differ": (one("MatMul", "w", weights={"w": np.ones((3, 2), np.float32)}), "cannot be multiplied"),
    "no-broadcast": (one("Add", "b", weights={"b": np.zeros(3, np.float32)}), "do not fit together"),
    "axis": (one("Softmax", axis=5), "axis 5 does not exist in a tensor of rank 2"),
    "reshape": (one("Reshape", "s", weights={"s": np.array([3, 3])}), "the_Reshape"),
    "permutation": (one("Transpose", perm=[0, 0]), "the_Transpose"),
    "gather": (one("Gather", "i", weights={"i": np.array([7])}, axis=1), "the_Gather"),
    "split": (model([node("Split", ["x", "s"], ["y", "z"], axis=1)], {"s": np.array([2, 3])}), "its parts (2, 3) do not add up to its input"),
    "nan-weight": (model(weights={"w": np.full((2, 2), np.nan, np.float32)}), "initialiser 'w' contains NaN or Inf"),
    "infinite-weight": (model(weights={"b": np.array([np.inf, 0], np.float32)}), "initialiser 'b' contains NaN or Inf"),
    "nan-attribute": (one("LeakyRelu", alpha=float("nan")), "attribute 'alpha' is NaN or infinite"),
    "short-weight": (model(weights={"w": raw("w", FLOAT, [2, 2], bytes(12))}), "initialiser 'w'"),
    "long-weight": (model(weights={"w": raw("w", FLOAT, [2, 2], bytes(20))}), "initialiser 'w'"),
    "odd-weight": (model(weights={"w": raw("w", FLOAT, [2, 2], bytes(15))}), "initialiser 'w'"),
    "negative-shape": (model(weights={"w": raw("w", FLOAT, [2, -2], bytes(16))}), "initialiser 'w' has shape (2, -2)"),
    "huge-shape": (model(weights={"w": raw("w", FLOAT, [1 << 31, 1 << 31], b"")}), "initialiser 'w' has shape"),
    "string-weight": (model(weights={"w": helper.make_tensor("w", TensorProto.STRING, [1], [b"one"])}), "element type STRING"),
    "typeless-weight": (model(weights={"w": raw("w", 0, [2, 2], bytes(16))}), "initialiser 'w'"),
    "two-weights-one-name": (changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "same name"),
    "external-nowhere": (model(weights={"w": external({"location": "nowhere.bin"})}), "nowhere.bin"),
    "external-escape": (model(weights={"w": external({"location": "../../../../etc/passwd"})}), "etc/passwd"),
    "external-absolute": (model(weights={"w": external({"location": "/etc/passwd"})}), "/etc/passwd"),
    "external-without-location": (model(weights={"w": external({})}), "initialiser 'w'"),
    "external-offset": (model(weights={"w": external({"location": "m.onnx", "offset": "-5"})}), "initialiser 'w'"),
    "external-attribute": (model([node("Constant", [], ["c"], value=external({"location": "m.onnx"})), node("Add", ["x", "c"])]), "in another file"),
    "huge-constant": (
        model([node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"])], {"s": np.array([1 << 20, 1 << 20])}), "would make a tensor of",
    ),
    "division-by-zero": (model([node("Div", ["b", "b"], ["c"]), node("Add", ["x", "c"])]), "NaN or Inf"),
}


def box(lower: str = "-1.0", upper: str = "1.0", inputs: int = 2) -> str:
    names = [f"(declare-const X_{i} Real)" for i in range(inputs)] + [f"(declare-const Y_{i} Real)" for i in range(2)]
    return "\n".join([*names, *(f"(assert (>= X_{i} {lower}))\n(assert (<= X_{i} {upper}))" for i in range(inputs))]) + "\n"


UNSAFE = "(assert (<= Y_0 0.0))\n"
QUERY = "(vnnlib-version <2.0>)\n(declare-network f (declare-input X Real [1, 2]) (declare-output Y Real [1, 2]))\n"
BOX2 = "(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 1.0)))\n"

PROPERTIES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "line 1, column 1: no input is declared: (declare-const X_0 Real) is missing"),
    "comment-only": ("; nothing\n", "line 1, column 1: no input is declared: (declare-const X_0 Real) is missing"),
    "binary": (bytes(range(256)), "line 2, column 118: not UTF-8 text: byte 0x80"),
    "not-utf8": (box().encode() + b"(assert (<= Y_0 \xff0.0))", "line 9, column 17: not UTF-8 text: byte 0xff"),
    "open-parenthesis": (box() + "(assert (<= Y_0 0.0)", "line 9, column 1: unbalanced parenthesis: this `(` is never closed"),
    "extra-parenthesis": (box() + UNSAFE + ")", "line 10, column 1: unbalanced parenthesis: this `)` closes nothing"),
    "no-parentheses": (box() + "assert", "line 9, column 1: 'assert' stands outside of any command"),
    "unknown-command": (box() + "(check-sat)", "line 9, column 2: 'check-sat' is no command or operator of VNN-LIB 1.0"),
    "unknown-operator": (
        box() + "(assert (implies (<= Y_0 0.0) (<= Y_1 0.0)))",
        "line 9, column 10: 'implies' is no command or operator of VNN-LIB 1.0",
    ),
    "not": (box() + "(assert (not (<= Y_0 0.0)))", "line 9, column 10: 'not' is no command or operator of VNN-LIB 1.0"),
    "undeclared": (box() + "(assert (<= Y_7 0.0))", "line 9, column 13: 'Y_7' is neither a number nor a declared variable"),
    "undeclared-name": (box() + "(assert (<= Z_0 0.0))", "line 9, column 13: 'Z_0' is neither a number nor a declared variable"),
    "other-name": ("(declare-const Q_0 Real)\n" + box() + UNSAFE, "line 1, column 16: 'Q_0' is no variable name of VNN-LIB 1.0: inputs are"),
    "other-type": (box().replace("Y_0 Real", "Y_0 Bool") + UNSAFE, "line 3, column 20: Y_0 has type 'Bool'; only Real is supported"),
    "integer-type": (box().replace("X_0 Real", "X_0 Int") + UNSAFE, "line 1, column 20: X_0 has type 'Int'; only Real is supported"),
    "gap": (
        box().replace("(declare-const X_0 Real)", "(declare-const X_5 Real)").replace("X_0 ", "X_5 ") + UNSAFE,
        "line 1, column 1: X_5 is declared and X_0 is not: indices must be",
    ),
    "twice": (box() + "(declare-const X_0 Real)\n" + UNSAFE, "line 9, column 1: X_0 is declared twice"),
    "leading-zero": (box().replace("X_0", "X_00") + UNSAFE, "line 1, column 16: 'X_00' is no variable name of VNN-LIB 1.0: inputs are"),
    "no-inputs": ("(declare-const Y_0 Real)(assert (<= Y_0 1.0))", "line 1, column 1: no input is declared: (declare-const X_0 Real) is missing"),
    "no-lower": (box().replace("(assert (>= X_1 -1.0))", "") + UNSAFE, "line 2, column 1: X_1 has no lower bound in some case; every input needs"),
    "no-upper": (box().replace("(assert (<= X_1 1.0))", "") + UNSAFE, "line 2, column 1: X_1 has no upper bound in some case; every input needs"),
    "unbounded-case": (
        box(inputs=1).replace("(declare-const Y_0", "(declare-const X_1 Real)\n(declare-const Y_0") + UNSAFE,
        "line 2, column 1: X_1 has no lower bound in some case (2 such bounds are",
    ),
    "number": (box(upper="1.0.0") + UNSAFE, "line 6, column 17: '1.0.0' is neither a number nor a declared variable"),
    "hexadecimal": (box(upper="0x1p3") + UNSAFE, "line 6, column 17: '0x1p3' is neither a number nor a declared variable"),
    "infinity": (box(upper="inf") + UNSAFE, "line 6, column 17: 'inf' is neither a number nor a declared variable"),
    "nan": (box(upper="nan") + UNSAFE, "line 6, column 17: 'nan' is neither a number nor a declared variable"),
    "comma": (box(upper="1,5") + UNSAFE, "line 6, column 17: '1,5' is neither a number nor a declared variable"),
    "underscore": (box(upper="1_000") + UNSAFE, "line 6, column 17: '1_000' is neither a number nor a declared variable"),
    "arabic-digits": (box(upper="\u0661") + UNSAFE, "line 6, column 17: '\u0661' is neither a number nor a declared variable"),
    "exponent-bomb": (box(upper="1e999999999") + UNSAFE, "line 6, column 17: exponent of '1e999999999' is beyond 400 in magnitude"),
    "digits-bomb": (box(upper="1" * 200_000) + UNSAFE, "line 6, column 17: number of 200000 characters; at most 4000 are read"),
    "deep": (
        box() + "(assert " + "(and " * 100_000 + "(<= Y_0 0.0)" + ")" * 100_000 + ")",
        "line 9, column 500004: parentheses nested deeper than 100000",
    ),
    "one-operand": (box() + "(assert (<= Y_0))", "line 9, column 10: <= compares two terms, not 1"),
    "three-operands": (box() + "(assert (<= Y_0 Y_1 0.0))", "line 9, column 10: <= compares two terms, not 3"),
    "empty-assert": (box() + "(assert)", "line 9, column 2: assert takes one formula, not 0"),
    "empty-and": (box() + "(assert (and))", "line 9, column 10: empty and"),
    "empty-or": (box() + "(assert (or))", "line 9, column 10: empty or"),
    "number-assert": (box() + "(assert 1.0)", "line 9, column 9: '1.0' is no formula"),
    "product": (box() + "(assert (<= (* Y_0 Y_1) 0.0))", "line 9, column 20: non-linear term: a product of two variables"),
    "quotient": (box() + "(assert (<= (/ Y_0 Y_1) 0.0))", "line 9, column 14: '/' is no command or operator of VNN-LIB 1.0"),
    "let": (box() + "(assert (let ((a Y_0)) (<= a 0.0)))", "line 9, column 16: 'a' is no command or operator of VNN-LIB 1.0"),
    "string": (box() + '(assert (<= "Y_0" 0.0))', "line 9, column 13: '\"Y_0\"' is neither a number nor a declared variable"),
    "quoted-symbol": (box() + "(assert (<= |Y_0 0.0))", "line 9, column 13: '|Y_0' is neither a number nor a declared variable"),
    "version-3": (QUERY.replace("2.0", "3.0") + BOX2, "line 1, column 17: '<3.0>' is no version that can be read: expected"),
    "version-word": (QUERY.replace("<2.0>", "two") + BOX2, "line 1, column 17: 'two' is no version that can be read: expected"),
    "version-twice": ("(vnnlib-version <2.0>)\n" + QUERY + BOX2, "line 2, column 1: the version stands twice"),
    "no-network": ("(vnnlib-version <2.0>)\n" + BOX2, "line 2, column 18: X is not declared"),
    "index-outside": (QUERY + BOX2 + "(assert (<= Y[0,2] 0.0))", "line 4, column 13: index 2 is out of range: Y has the shape [1, 2]"),
    "index-rank": (QUERY + BOX2 + "(assert (<= Y[0] 0.0))", "line 4, column 13: Y has 2 axes, and 1 indices are given"),
    "index-word": (QUERY + BOX2 + "(assert (<= Y[0,i] 0.0))", "line 4, column 13: [0,i]: expected integers of at most nine digits,"),
    "index-negative": (QUERY + BOX2 + "(assert (<= Y[0,-1] 0.0))", "line 4, column 13: [0,-1]: expected integers of at most nine digits,"),
    "index-open": (QUERY + BOX2 + "(assert (<= Y[0,1 0.0))", "line 4, column 10: <= compares two terms, not 3"),
    "dimension-zero": (QUERY.replace("X Real [1, 2]", "X Real [1, 0]") + BOX2, "line 2, column 37: X has an axis of length 0"),
    "dimension-huge": (
        QUERY.replace("X Real [1, 2]", "X Real [99999999999, 99999999999]") + BOX2,
        "line 2, column 37: [99999999999, 99999999999]: expected integers of at",
    ),
    "type-unknown": (QUERY.replace("X Real", "X quaternion") + BOX2, "line 2, column 37: element type 'quaternion' is not supported"),
    "type-string": (QUERY.replace("X Real", "X string") + BOX2, "line 2, column 37: element type 'string' is not supported"),
    "input-twice": (
        QUERY.replace("(declare-output", "(declare-input X Real [1, 2]) (declare-output") + BOX2,
        "line 2, column 50: X is declared twice",
    ),
    "no-output": (
        "(vnnlib-version <2.0>)\n(declare-network f (declare-input X Real [1, 2]))\n" + BOX2,
        "line 2, column 2: the network f has no declare-output",
    ),
    "declared-late": ("(vnnlib-version <2.0>)\n" + BOX2 + QUERY.partition("\n")[2], "line 2, column 18: X is not declared"),
    "plus-number": (QUERY + BOX2.replace("1.0", "+1.0"), "line 3, column 41: '+1.0' is neither a number nor a declared variable"),
    "cut-gzip": (gzip.compress((box() + UNSAFE).encode())[:40], "cannot be decompressed: Compressed file ended before the end-of-stream"),
}


def main(folder: Path) -> int:
    """Write the corpus, models as NAME.onnx and properties as NAME.vnnlib, with EXPECTED.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, (build, message) in MODELS.items():
        (folder / f"{name}.onnx").write_bytes(build())
        lines.append(f"{name}.onnx\t{message}")
    for name, (text, message) in PROPERTIES.items():
        (folder / f"{name}.vnnlib").write_bytes(text if isinstance(text, bytes) else text.encode())
        lines.append(f"{name}.vnnlib\t{message}")
    (folder / "EXPECTED.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


if __name__ == "__main__":
    print(main(Path(sys.argv[1])), "files")
