"""Queries of several networks, hidden tensors and products over two small files; their meaning at a point is told by onnxruntime and rationals."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graph.load import Model
from specs.canonical import Property
from specs.vnnlib import parse
from tests.specs import queries
from verifier import engine, judge
from verifier.certificate import Recorder
from verifier.checker.main import Process
from verifier.networks import load_models
from verifier.options import Options
from verifier.report import Loaded, build_result
from verifier.result import FileIdentity, Outcome, Result

Array = NDArray[Any]
NAMES = ("X[0,0]", "X[0,1]", "H[0,0]", "H[0,1]", "H[0,2]", "Y[0,0]", "A[0,0]", "A[0,1]", "B[0,0]")  # in the order of declaration
VERSION = "(vnnlib-version <2.0>)\n"


def file_of(seed: int, sharp: bool = False, hidden: int = 3) -> bytes:
    """x [1, 2] -> relu(x w + b), called `inner` [1, 3] -> y [1, 1]; weights are multiples of 1/8. Not `sharp`: tanh in the place of relu."""
    draw = np.random.default_rng(seed)
    sizes: dict[str, tuple[int, ...]] = {"w": (2, hidden), "b": (hidden,), "v": (hidden, 1), "c": (1,)}
    weights = {name: draw.integers(*((-12, 13) if len(shape) > 1 else (-4, 5)), shape) for name, shape in sizes.items()}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["sum"]), helper.make_node("Relu" if sharp else "Tanh", ["sum"], ["inner"]),
        helper.make_node("Gemm", ["inner", "v", "c"], ["y"]),
    ]  # fmt: skip
    stored = [numpy_helper.from_array((value / 8).astype(np.float32), name) for name, value in weights.items()]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (("x", [1, 2]), ("y", [1, 1]))]
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, stored), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def deep_file(seed: int, width: int = 12) -> bytes:
    """x [1, 2] -> three layers of relu -> y [1, 1]."""
    draw = np.random.default_rng(seed)
    sizes, nodes, stored = (2, width, width, width, 1), [], []
    for k, (n, m) in enumerate(pairwise(sizes)):
        drawn = {f"w{k}": draw.normal(size=(n, m)) / n**0.5, f"b{k}": draw.normal(size=m) / n**0.5}
        stored += [numpy_helper.from_array(value.astype(np.float32), name) for name, value in drawn.items()]
        nodes.append(helper.make_node("Gemm", ["x" if k == 0 else f"h{k}", f"w{k}", f"b{k}"], ["y" if k == 3 else f"s{k}"]))
        nodes += [helper.make_node("Relu", [f"s{k}"], [f"h{k + 1}"])] if k < 3 else []
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (("x", [1, 2]), ("y", [1, 1]))]
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, stored), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def network(name: str, x: str, y: str, relation: str = "", hidden: str = "", kind: str = "real") -> str:
    """A declaration of such a network; `hidden` is the name of its inner tensor, if that is declared."""
    inner = f'(declare-hidden {hidden} {kind} [1,3] "inner")' if hidden else ""
    return f"(declare-network {name} {relation} (declare-input {x} {kind} [1,2]) {inner} (declare-output {y} {kind} [1,1]))\n"


def box(*tensors: str, low: str = "-1.0", high: str = "1.0") -> str:
    return "".join(f"(assert (and (>= {t}[0,{i}] {low}) (<= {t}[0,{i}] {high})))\n" for t in tensors for i in range(2))


def values(files: list[bytes], x: Array) -> dict[str, Fraction]:
    """The value of every name, from onnxruntime; x [4]."""
    found = [float(v) for v in x[:2]]
    for content, part, hidden in ((files[0], x[:2], True), (files[1], x[2:], False)):
        model = onnx.ModelProto.FromString(content)
        model.graph.output.append(helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 3]))
        running = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        y, inner = running.run(["y", "inner"], {"x": part.reshape(1, 2).astype(np.float32)})
        found += [] if hidden else [float(v) for v in x[2:]]
        found += [float(v) for v in (*(inner.ravel() if hidden else ()), y.item())]
    return dict(zip(NAMES, map(Fraction, found), strict=True))


words = st.sampled_from([*NAMES, "1.0", "-0.5", "2"])
terms = st.recursive(words, lambda inner: st.tuples(st.sampled_from("+-*"), st.lists(inner, min_size=1, max_size=3)), max_leaves=5)
comparisons = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "==", "!="]), st.tuples(terms, terms).map(list))
formulas = st.recursive(
    comparisons, lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)), max_leaves=4
)
equalities = st.lists(st.sampled_from([("X[0,0]", "A[0,0]"), ("A[0,1]", "X[0,1]"), ("X[0,0]", "A[0,1]"), ("A[0,0]", "A[0,1]")]), max_size=2)


def text_of(formulas: list[Any], equal: list[tuple[str, str]], relation: str = "") -> str:
    """A query of two networks; a pair of equal inputs is written as one `==`, or as two inequalities."""
    told = [("==", list(pair)) if k else ("and", [("<=", list(pair)), (">=", list(pair))]) for k, pair in enumerate(equal)]
    asserted = "".join(f"(assert {queries.version_2(formula)})\n" for formula in (*told, *formulas))
    return VERSION + network("f", "X", "Y", hidden="H") + network("g", "A", "B", relation) + box("X", "A") + asserted


class Asked:
    """A query about files in a folder: what the engine says, and the checker or the judge."""

    def __init__(self, folder: Path, text: str, **files: bytes) -> None:
        self.folder, self.text = folder, text
        (folder / "q.vnnlib").write_text(text)
        self.models = tuple((name, str(folder / f"{name}.onnx")) for name in files)
        for name, content in files.items():
            (folder / f"{name}.onnx").write_bytes(content)
        self.property: Property = parse(text)
        self.model: Model = load_models(self.property, self.models)

    def options(self, **chosen: Any) -> Options:
        (name, path), *more = self.models
        return Options(path, str(self.folder / "q.vnnlib"), name, tuple(more), timeout=100.0, threads=1, **chosen)

    def decide(self, semantics: str = "real") -> tuple[str, str]:
        """The engine's verdict, and the checker's word (with its rule) for an `unsat`, the judge's for a `sat`."""
        recorder = Recorder(str(self.folder))
        outcome = engine.run(self.model, self.property, self.options(semantics=semantics, nodes=3000), recorder)
        if outcome.verdict == "sat":
            told = self.told(outcome)
            models = {name: Path(path) for name, path in self.models}
            judged = judge.judge(models, self.folder / "q.vnnlib", told.to_stdout(), told.to_competition())
            return "sat", "confirmed, in the exact box" if judged else "confirmed"
        return outcome.verdict, self.checked(recorder, semantics) if outcome.verdict == "unsat" else ""

    def told(self, outcome: Outcome) -> Result:
        files = tuple(FileIdentity(path, "0" * 64, name) for name, path in self.models)
        loaded = Loaded(self.models[0][1], self.models[0][0], self.model, "q.vnnlib", self.property, "0" * 64, files)
        return build_result(outcome, loaded, self.options(), 0.0, None)

    def checked(self, recorder: Recorder, semantics: str, arithmetic: str = "float64") -> str:
        path = self.folder / "certificate"
        recorder.write(str(path), self.model.sha256, hashed(self.text), semantics)
        options = {"timeout": 0.0, "memory": 8.0, "limit_bytes": 10**8, "processes": 1, "arithmetic": arithmetic, "diagnose": None, "follow": False}
        networks = tuple((name, Path(file)) for name, file in self.models) if len(self.models) > 1 else ()
        with contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
            line, _ = Process(argparse.Namespace(**options)).outcome((Path(self.models[0][1]), self.folder / "q.vnnlib", path), networks)
        return line.split(" {")[0] if line.startswith("ACCEPTED") else line


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
