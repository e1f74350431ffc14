"""A corpus of VNN-LIB 2: a query for every production of the standard's grammar and for every theory, about tiny networks, with its answer.

    python -m tests.vnnlib2.make FOLDER        writes the queries, the networks and EXPECTED.txt, to try them on another verifier
    python -m tests.vnnlib2.make               writes the table of docs/queries.md

Productions have the names that the grammar gives them (VNNLIB-Standard, syntax/grammar.cf), theories those of its chapter on logics. The networks:

    f       x [1,2] -> sum = (x0 - x1, x0 + x1) -> inner = relu(sum) -> y = (inner0 - inner1, inner0 + inner1). Where 0 <= x <= 1, this is
            y0 = -x1 - min(x0, x1), between -2 and 0, and y1 = x0 + max(x0, x1), between 0 and 2; "inner" is between 0 and 1, and 0 and 2
    half    the same with half of the last weights: y0 / 2 and y1 / 2
    deep    f, and one more layer, which is the identity
    two     u [1,2] and s [] -> p = relu(u + s) [1,2] and its sum q []
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queries.md"
MARKS = ("<!-- the corpus begins -->", "<!-- the corpus ends -->")


@dataclass(frozen=True)
class Entry:
    """`answer` is a verdict, or what the refusal says. `models` gives the networks their files, `by_file` says that they are what is refused.
    `standard`: whether the standard's own parser takes the text."""

    text: str
    answer: str
    models: Mapping[str, str]
    standard: bool = True
    by_file: bool = False

    @property
    def refused(self) -> bool:
        return self.answer not in ("sat", "unsat")


# --- networks -------------------------------------------------------------------------------------------------------------------------------

TURN = np.array([[1, -1], [1, 1]], np.float32)  # a Gemm with it, transposed, takes sum and difference


def proto(nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]], **weights: Any) -> bytes:
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()] for side in (inputs, outputs)]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    model = helper.make_model(helper.make_graph(list(nodes), "g", *ends, stored), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def layers(scale: float = 1.0, more: bool = False) -> bytes:
    """f, half or deep; `a "b"` is the inner tensor again."""
    node = helper.make_node
    nodes = [
        node("Gemm", ["x", "w"], ["sum"], transB=1), node("Relu", ["sum"], ["inner"]), node("Identity", ["inner"], ['a "b"']),
        node("Gemm", ["inner", "v"], ["z" if more else "y"], transB=1), *([node("Gemm", ["z", "i"], ["y"])] if more else []),
    ]  # fmt: skip
    weights = {"w": TURN, "v": TURN * np.float32(scale)} | ({"i": np.eye(2, dtype=np.float32)} if more else {})
    return proto(nodes, {"x": [1, 2]}, {"y": [1, 2]}, **weights)


def two() -> bytes:
    node = helper.make_node
    nodes = [node("Add", ["u", "s"], ["r"]), node("Relu", ["r"], ["p"]), node("ReduceSum", ["p"], ["q"], keepdims=0)]
    return proto(nodes, {"u": [1, 2], "s": []}, {"p": [1, 2], "q": []})


NETWORKS = {"f": layers(), "half": layers(0.5), "deep": layers(more=True), "two": two()}

# --- texts ----------------------------------------------------------------------------------------------------------------------------------

VERSION = "(vnnlib-version <2.0>)\n"
ELEMENTS = ("[0,0]", "[0,1]")
HIDDEN = '(declare-hidden H real [1,2] "inner")'


def network(name: str, x: str, y: str, inner: str = "", relation: str = "", kind: str = "real") -> str:
    return f"(declare-network {name} {relation}(declare-input {x} {kind} [1,2]) {inner}(declare-output {y} {kind} [1,2]))\n"


def box(*tensors: str) -> str:
    return "".join(f"(assert (and (>= {t}{i} 0.0) (<= {t}{i} 1.0)))\n" for t in tensors for i in ELEMENTS)


def unsafe(*formulas: str) -> str:
    return "".join(f"(assert {formula})\n" for formula in formulas)


def about(*formulas: str, answer: str, standard: bool = True, inner: str = "", kind: str = "real", by_file: bool = False) -> Entry:
    """A query about f."""
    text = VERSION + network("f", "X", "Y", inner and inner + " ", kind=kind) + box("X") + unsafe(*formulas)
    return Entry(text, answer, {"f": "f"}, standard, by_file)


def pair(relation: str, *formulas: str, answer: str, other: str = "half", standard: bool = True, by_file: bool = False) -> Entry:
    """A query about f and a second network g, over inputs of its own."""
    second = network("g", "A", "B", relation=f"({relation} f) " if relation else "")
    text = VERSION + network("f", "X", "Y") + second + box("X", "A") + unsafe(*formulas)
    return Entry(text, answer, {"f": "f"} | ({} if relation == "equal-to" else {"g": other}), standard, by_file)


def declared(tensors: str, *formulas: str, answer: str, standard: bool = True) -> Entry:
    """A query about a network `two`, whose tensors are declared by hand."""
    bounds = "(assert (and (>= U[0,0] -1.0) (<= U[0,0] 1.0) (>= U[0,1] -1.0) (<= U[0,1] 1.0)))\n(assert (and (>= S 0.0) (<= S 1.0)))\n"
    return Entry(f"{VERSION}(declare-network two {tensors})\n{bounds}{unsafe(*formulas)}", answer, {"two": "two"}, standard)


def text(changed: str, answer: str, standard: bool = False) -> Entry:
    """A whole text."""
    return Entry(changed, answer, {"f": "f"}, standard)


PLAIN = about("(<= Y[0,0] -2.5)", answer="unsat").text
TWO = "(declare-input U real [1,2]) (declare-input S real []) (declare-output P real [1,2]) (declare-output Q real [])"
BEYOND = "(>= Y[0,1] 2.5)"  # is nowhere
EQUAL = ("(== X[0,0] A[0,0])", "(== X[0,1] A[0,1])")

PRODUCTIONS: dict[str, Entry] = {
    "VNNLibQuery": about(BEYOND, answer="unsat"),
    "VNNLibQuery without assertions": text(VERSION + network("f", "X", "Y"), "nothing is asserted"),
    "VNNLibQuery without networks": text(VERSION, "no network is declared"),
    "VNNLibVersion, 2.0": about("(>= Y[0,1] 1.5)", answer="sat"),
    "VNNLibVersion, 2.1": text(PLAIN.replace("<2.0>", "<2.1>"), "unsat", True),
    "VNNLibVersion, later": text(PLAIN.replace("<2.0>", "<3.0>"), "no version that can be read"),
    "VNNLibVersion, missing": text(PLAIN.replace(VERSION, ""), "a network is declared before the version"),
    "VNNLibVersion, twice": text(VERSION + PLAIN, "the version stands twice"),
    "VersionToken without brackets": text(PLAIN.replace("<2.0>", "2.0"), "no version that can be read"),
    "Number, decimal": about("(>= Y[0,1] 1.99999999999999999999)", answer="sat"),
    "Number, negative": about("(<= Y[0,0] -1.5)", answer="sat"),
    "Number, integer": about("(>= Y[0,1] 3)", answer="unsat", standard=False),
    "Number, with an exponent": about("(>= Y[0,1] 2.5e0)", answer="numbers have no exponent", standard=False),
    "Number, with a sign +": about("(>= Y[0,1] +2.5)", answer="no sign +", standard=False),
    "Number, without digits in front": about("(>= Y[0,1] .5)", answer="neither a number", standard=False),
    "Number, too large for float32": about(f"(>= Y[0,1] 4{'0' * 38}.0)", answer="too large for float32"),
    "VariableName with digits and _": text(PLAIN.replace("Y", "y_0A"), "unsat", True),
    "VariableName with a digit in front": text(PLAIN.replace("Y", "0y"), "is no name"),
    "VariableName, a keyword": text(PLAIN.replace("Y", "or"), "is no name"),
    "comment": text(PLAIN.replace("(assert", "; (assert (\n(assert"), "unsat", True),
    "ScalarDims, ScalarVarExpr": declared(TWO, "(>= Q 3.0)", answer="sat"),
    "ScalarVarExpr of a tensor": about("(>= Y 0.5)", answer="Y has 2 axes, and 0 indices are given", standard=False),
    "TensorDims": about("(<= Y[0,1] -0.5)", answer="unsat"),
    "TensorDims of length 0": text(PLAIN.replace("Y real [1,2]", "Y real [1,0]"), "an axis of length 0"),
    "TensorVarExpr": about("(and (<= Y[0,0] -0.5) (>= Y[0,1] 1.5))", answer="sat"),
    "TensorVarExpr out of range": about("(>= Y[0,2] 0.5)", answer="index 2 is out of range", standard=False),
    "TensorVarExpr with an index too few": about("(>= Y[0] 0.5)", answer="Y has 2 axes, and 1 indices are given", standard=False),
    "ValExpr on both sides": about("(<= 0.5 1.0)", BEYOND, answer="unsat"),
    "Negate": about("(>= (- Y[0,0]) 2.5)", answer="unsat"),
    "Plus": about("(>= (+ Y[0,1] X[0,0] 0.5) 3.25)", answer="sat"),
    "Plus of one": about("(>= (+ Y[0,1]) 2.5)", answer="unsat"),
    "Plus of nothing": about("(>= (+) 2.5)", answer="needs at least one term", standard=False),
    "Minus": about("(>= (- Y[0,1] Y[0,0]) 4.5)", answer="unsat"),
    "Minus of four, from the left": about("(>= (- 1.0 Y[0,0] 0.5 X[0,0]) 2.5)", answer="unsat"),
    "Multiply by numbers": about("(>= (* 2.0 Y[0,1] 0.5) 1.5)", answer="sat"),
    "Multiply of one": about("(>= (* Y[0,1]) 2.5)", answer="unsat"),
    "division": about("(>= (/ Y[0,1] 2.0) 2.5)", answer="'/' is no command or operator", standard=False),
    "GreaterThan": about("(> Y[0,0] 0.125)", answer="unsat"),
    "GreaterThan at its limit": about("(> Y[0,0] -0.125)", "(> X[0,0] 0.5)", answer="sat"),
    "LessThan": about("(< Y[0,1] -0.125)", answer="unsat"),
    "GreaterEqual": about("(>= Y[0,0] 0.0)", answer="sat"),
    "LessEqual": about("(<= Y[0,0] -2.0)", answer="sat"),
    "Equal": about("(== Y[0,0] -1.0)", "(== X[0,0] 0.5)", "(== X[0,1] 0.5)", answer="sat"),
    "Equal, nowhere": about("(== Y[0,1] (+ Y[0,0] 4.5))", answer="unsat"),
    "Equal, written with =": about("(= Y[0,1] 2.0)", answer="writes equality as ==", standard=False),
    "NotEqual": about("(!= Y[0,1] 2.0)", answer="sat"),
    "NotEqual, nowhere": about("(!= (- Y[0,1] Y[0,1]) 0.0)", answer="unsat"),
    "And": about("(and (>= Y[0,1] 1.0) (<= X[0,0] 0.25))", answer="sat"),
    "And of one": about("(and (>= Y[0,1] 2.5))", answer="unsat"),
    "And of nothing": about("(and)", answer="empty and", standard=False),
    "Or": about("(or (>= Y[0,1] 2.5) (<= Y[0,0] -2.5))", answer="unsat"),
    "Or of one": about("(or (>= Y[0,1] 1.5))", answer="sat"),
    "Or over inputs": about("(or (<= X[0,0] 0.25) (>= X[0,0] 0.75))", "(>= Y[0,1] 1.5)", answer="sat"),
    "Or in And in Or": about(f"(or (and (or {BEYOND} (<= Y[0,0] -2.5)) (<= X[0,0] 1.0)) (and {BEYOND} (or {BEYOND} {BEYOND})))", answer="unsat"),
    "not": about("(not (<= Y[0,1] 2.0))", answer="'not' is no command or operator", standard=False),
    "Assert, several": about("(>= Y[0,1] 1.5)", "(<= Y[0,1] 1.75)", "(<= Y[0,0] -0.5)", answer="sat"),
    "Assert, contradicting": about("(>= X[0,0] 0.75)", "(<= X[0,0] 0.5)", answer="unsat"),
    "Assert of a term": about("Y[0,1]", answer="is no formula", standard=False),
    "Assert before a network": text(VERSION + unsafe("(<= 0.0 1.0)") + network("f", "X", "Y"), "the network is declared after an assert"),
    "Assert without bounds of an input": text(PLAIN.replace("(>= X[0,1] 0.0)", "(<= X[0,1] 1.0)"), "X[0,1] has no lower bound", True),
    "NodeName, OnnxString": about("(>= H[0,0] 1.5)", answer="unsat", inner=HIDDEN),
    "OnnxString with quotation marks": about("(>= H[0,0] 1.5)", answer="unsat", inner='(declare-hidden H real [1,2] "a \\"b\\"")'),
    "OnnxString with another escape": about("(>= H[0,0] 0.5)", answer="in quotation marks", inner='(declare-hidden H real [1,2] "a\\tb")'),
    "OnnxString, unknown": about(
        "(>= H[0,0] 1.5)", answer="no node of the network makes a tensor 'outer'", inner=HIDDEN.replace("inner", "outer"), by_file=True
    ),
    "InputDef": about("(>= X[0,0] 1.5)", answer="unsat"),
    "InputDef, several": declared(TWO, "(>= (+ U[0,0] U[0,1] S) 3.5)", answer="unsat"),
    "InputDef behind an output": declared(
        TWO.replace("(declare-input S real []) ", "") + " (declare-input S real [])", answer="all inputs come first", standard=False
    ),
    "InputDef, none": text(VERSION + "(declare-network f (declare-output Y real [1,2]))\n", "has no declare-input"),
    "InitializedOption (2.1)": text(
        PLAIN.replace("<2.0>", "<2.1>").replace("X real [1,2])", "X real [1,2] initialized)"), "`initialized` is not supported"
    ),
    "OutputDef, several": declared(TWO, "(>= (- Q P[0,0]) 2.5)", answer="unsat"),
    "OutputDef, none": text(VERSION + "(declare-network f (declare-input X real [1,2]))\n", "has no declare-output"),
    "OutputDef, undeclared": declared(TWO.replace("(declare-output Q real [])", ""), "(>= Q 3.0)", answer="Q is not declared", standard=False),
    "HiddenDef": about("(>= (- H[0,0] H[0,1]) 0.5)", answer="unsat", inner=HIDDEN),
    "HiddenDef, several": about(
        "(>= (- H[0,0] S[0,0]) 0.5)", "(<= S[0,1] 0.75)", answer="sat", inner=HIDDEN + '(declare-hidden S real [1,2] "sum")'
    ),
    "HiddenDef without a name": about("(>= H[0,0] 0.5)", answer="expected (declare-hidden", inner="(declare-hidden H real [1,2])", standard=False),
    "NetworkDef, a name twice": text(PLAIN.replace("(assert", network("f", "A", "B") + "(assert", 1), "a second network of the name f", True),
    "NetworkDef, a tensor twice": text(PLAIN.replace("(assert", network("g", "X", "B") + "(assert", 1), "X is declared twice"),
    "EqualTo": pair("equal-to", *EQUAL, "(>= (- Y[0,0] B[0,0]) 0.25)", answer="unsat"),
    "EqualTo, itself": text(PLAIN.replace("(declare-network f ", "(declare-network f (equal-to f) "), "f is not declared before f"),
    "EqualTo, of other shapes": text(
        PLAIN.replace("(assert", "(declare-network g (equal-to f) (declare-input A real [2]) (declare-output B real [1,2]))\n(assert", 1),
        "g is equal-to f, and their inputs differ",
    ),
    "IsomorphicTo": pair("isomorphic-to", *EQUAL, "(>= (- Y[0,0] B[0,0]) 0.25)", answer="unsat"),
    "IsomorphicTo, of another structure": pair("isomorphic-to", BEYOND, answer="g is isomorphic-to f, but", other="deep", by_file=True),
    "EqualTo and IsomorphicTo": text(
        PLAIN.replace("(assert", network("g", "A", "B", relation="(equal-to f) (isomorphic-to f) ") + "(assert", 1),
        "in the place of a declare-input", True,
    ),
}  # fmt: skip

FLOATS = ("float16", "float64", "bfloat16", "float8e4m3fn", "float8e5m2", "float8e4m3fnuz", "float8e5m2fnuz", "float4e2m1")
OTHERS = ("bool", "string", "complex64", "complex128", *(f"{sign}int{bits}" for bits in (4, 8, 16, 32, 64) for sign in ("", "u")))
UNTYPED = ("string", "int4", "uint4")  # the standard's type checker does not hold these against numbers
REFUSED_TYPES = {name: "no analysis here is sound for its arithmetic" for name in FLOATS} | {name: "only tensors of real numbers" for name in OTHERS}

THEORIES: dict[str, Entry] = {
    "NH: no hidden nodes": about("(>= (+ Y[0,0] Y[0,1]) 2.5)", answer="unsat"),
    "H: hidden nodes": about("(>= (- Y[0,1] H[0,1]) 0.25)", answer="sat", inner=HIDDEN),
    "SIO: one input, one output": about("(>= Y[0,1] 2.0)", "(>= Y[0,0] -0.5)", answer="sat"),
    "MIO: several inputs and outputs": declared(TWO, "(>= (- Q P[0,0] P[0,1]) 0.5)", answer="unsat"),
    "SNET: one network": about("(>= (- Y[0,0] Y[0,1]) 0.5)", answer="unsat"),
    "MENET: equal networks": pair("equal-to", "(== X[0,0] A[0,0])", "(>= (- Y[0,1] B[0,1]) 0.75)", answer="sat"),
    "MINET: isomorphic networks": pair("isomorphic-to", *EQUAL, "(>= (- B[0,1] Y[0,1]) 0.125)", answer="unsat"),
    "MNET: any networks": pair("", *EQUAL, "(>= (- Y[0,1] B[0,1]) 0.25)", answer="unsat", other="deep"),
    "MNET, apart": pair("", "(>= (- Y[0,1] B[0,1]) 0.25)", answer="sat", other="deep"),
    "SNC: comparisons within a node": pair("", "(== Y[0,1] A[0,0])", "(>= Y[0,1] 1.25)", answer="unsat"),
    "MNC: comparisons of several nodes": about("(>= (+ X[0,0] X[0,1] Y[0,0]) 1.25)", answer="unsat"),
    "BND: bounds": about("(>= Y[0,0] 0.25)", answer="unsat"),
    "OUTC: comparisons of outputs": about("(>= Y[0,0] Y[0,1])", answer="sat"),
    "LIN: linear terms": about("(>= (+ (* 0.5 Y[0,1]) (* 0.25 Y[0,0])) 1.25)", answer="unsat"),
    "LIN over inputs": about("(>= (- X[0,0] X[0,1]) 0.5)", "(<= (- Y[0,1] X[0,0] X[0,0]) -0.25)", answer="unsat"),
    "POLY: products": about("(>= (* Y[0,0] Y[0,1]) 0.5)", answer="unsat"),
    "POLY, of inputs and outputs": about("(<= (* X[0,0] X[0,0] Y[0,0]) -1.5)", answer="sat"),
    "POLY of a hidden tensor": about("(<= (* H[0,0] H[0,0]) -0.5)", answer="unsat", inner=HIDDEN),
    "POLY, a factor too many": about(f"(>= (* {'Y[0,1] ' * 9}) 0.5)", answer="a product of more than 8 variables is not supported"),
    "real": about(BEYOND, answer="unsat"),
    "Real": about(BEYOND, answer="unsat", kind="Real"),
    "float32": about(BEYOND, answer="unsat", kind="float32"),
    "float32, at the limit": about("(>= Y[0,1] 2.0)", answer="sat", kind="float32"),
    "float32 and real together": replace(
        about("(>= (- Y[0,0] X[0,0]) 0.5)", answer="unsat", standard=False), text=about("(>= (- Y[0,0] X[0,0]) 0.5)", answer="").text.replace(
            "Y real", "Y float32"
        ),
    ),
    **{name: about(BEYOND, answer=why, kind=name, standard=name in (*FLOATS, *UNTYPED)) for name, why in REFUSED_TYPES.items()},
    "a type that ONNX has not": about(BEYOND, answer="the standard has no such type", kind="quaternion"),
}  # fmt: skip

CORPUS = {**PRODUCTIONS, **THEORIES}


def file_name(name: str) -> str:
    """A name that every file system takes."""
    return "_".join("".join(c if c.isalnum() else " " for c in name).split())


def table() -> Iterator[str]:
    """The corpus for the page."""
    for title, entries in (("production of the grammar", PRODUCTIONS), ("theory, or element type", THEORIES)):
        yield from ("", f"| {title} | answer |", "|---|---|")
        for name, entry in entries.items():
            notes = "" if entry.standard else "; not taken by the standard's own parser" if not entry.refused else ""
            yield f"| {name.replace('|', '')} | {f'refused: {entry.answer}' if entry.refused else f'`{entry.answer}`'}{notes} |"
    yield ""


def page(written: str) -> str:
    """The page with the table in it."""
    before, _, rest = written.partition(MARKS[0])
    return before + MARKS[0] + "\n" + "\n".join(table()) + "\n" + MARKS[1] + rest.partition(MARKS[1])[2]


def main(folder: Path) -> int:
    """Write the corpus; the number of queries."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in NETWORKS.items():
        (folder / f"{name}.onnx").write_bytes(content)
    lines = []
    for name, entry in CORPUS.items():
        (folder / f"{file_name(name)}.vnnlib").write_text(entry.text, encoding="utf-8")
        networks = " ".join(f"--network {network}={file}.onnx" for network, file in entry.models.items())
        lines.append(f"{file_name(name)}.vnnlib\t{networks}\t{'refused: ' * entry.refused}{entry.answer}\n")
    (folder / "EXPECTED.txt").write_text("".join(lines), encoding="utf-8")
    return len(lines)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(main(Path(sys.argv[1])), "queries")
    else:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
