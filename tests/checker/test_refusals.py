"""Every place of the kernel that can refuse is reached by some certificate, or at least by a call, and it is reached for the reason it states.

The places are read off the syntax trees: each `raise` of a refusal and each call of a helper that raises one. A case counts for a place only
if the traceback of what it raised passes through exactly that statement. A place without a case fails, by name; so does an excuse that
is not needed any more. What no certificate reaches has an excuse that says why it stays; `make coverage-checker` asks that some call reaches it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.checker import small
from tests.checker.build import Draft, Member, Records, clip, described, empty, leaf, multipliers, pack, refine, rows, split, zip_file
from verifier.checker import activations, arithmetic, bounds, certificate, functions, kernels, maps, shapes, tree, walk
from verifier.checker.main import Process
from verifier.checker.measured import Table
from verifier.checker.network import Input, Network, Node, Pieces, Smooth
from verifier.checker.refusal import Refusal

KERNEL = Path(bounds.__file__).parent
FILES = (
    "activations", "arithmetic", "bounds", "certificate", "forward", "functions", "kernels", "maps", "measured", "shapes", "slack", "state", "tree",
    "walk",
)  # fmt: skip
HELPERS = {"_require", "_below", "finite", "_fail", "_away"}  # calls of these may refuse
Case = Callable[[pytest.MonkeyPatch, Path], Any]

# ---------------------------------------------------------------- the places


@dataclass(frozen=True)
class Place:
    """A statement or call that refuses: where it stands, and its name FILE:FUNCTION:RULE, numbered where there are several."""

    name: str
    file: str
    span: tuple[int, int, int, int]  # line, end line, column, end column


def _rule(node: ast.AST) -> str | None:
    """The rule that a `raise` or a call of a helper states, "?" if it is computed; None for anything else."""
    call = node.exc if isinstance(node, ast.Raise) else node
    if not isinstance(call, ast.Call):
        return None
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if isinstance(node, ast.Raise):
        if name not in ("Rejected", "Malformed"):
            return None
        return str(call.args[0].value) if isinstance(call.args[0], ast.Constant) else "?"
    if name not in HELPERS:
        return None
    words = [a.value for a in call.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    stated = words[0] if words and len(call.args) > 2 else "shape"
    return {"_below": "index", "finite": "not-finite", "_away": "float32-divisor"}.get(name, stated)


def _found(file: str) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
        for child in ast.iter_child_nodes(node):
            inner = f"{function}.{child.name}".strip(".") if isinstance(child, ast.FunctionDef | ast.ClassDef) else function
            if isinstance(child, ast.expr | ast.stmt) and (rule := _rule(child)) is not None:
                yield f"{file}:{function}:{rule}", child
                if isinstance(child, ast.Raise):
                    continue
            yield from visit(child, inner)

    yield from visit(ast.parse((KERNEL / f"{file}.py").read_text(encoding="utf-8")), "")


def _places() -> dict[str, Place]:
    found: dict[str, Place] = {}
    for file in FILES:
        seen: Counter[str] = Counter()
        for name, node in _found(file):
            seen[name] += 1
            key = name if seen[name] == 1 else f"{name} {seen[name]}"
            end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
            found[key] = Place(key, f"{file}.py", (node.lineno, end_line, node.col_offset, end_column))
    return found


PLACES = _places()


def _passed(trace: TracebackType | None) -> set[str]:
    """The names of the places that a traceback passes through."""
    names = set()
    while trace is not None:
        code = trace.tb_frame.f_code
        span = list(code.co_positions())[trace.tb_lasti // 2]
        names |= {place.name for place in PLACES.values() if code.co_filename == str(KERNEL / place.file) and _inside(span, place.span)}
        trace = trace.tb_next
    return names


def _inside(span: tuple[int | None, ...], around: tuple[int, int, int, int]) -> bool:
    line, end_line, column, end_column = (x or 0 for x in span)
    return (around[0], around[2]) <= (line, column) and (end_line, end_column) <= (around[1], around[3])


# ---------------------------------------------------------------- how to reach them

CASES: dict[str, Case] = {}


def reaches(*names: str) -> Callable[[Case], Case]:
    """The decorated case is refused at all these places."""

    def register(case: Case) -> Case:
        for name in names:
            assert name not in CASES, name
            CASES[name] = case
        return case

    return register


def check(model: bytes, text: bytes, data: bytes, folder: Path, **options: Any) -> None:
    """The whole check, in this process; raises what refuses."""
    chosen = {"timeout": 0.0, "memory": 8.0, "limit_bytes": 100_000_000, "processes": 1, "arithmetic": "float64", "diagnose": None, **options}
    files = folder / "model", folder / "property", folder / "certificate"
    for path, content in zip(files, (model, text, data), strict=True):
        path.write_bytes(content)
    with contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
        Process(argparse.Namespace(follow=False, **chosen))._check(files)


SAFE, CLOSE = small.text("(>= Y_0 3.5)"), small.text("(>= Y_0 2.01)")
BOTH = small.text("(or (>= Y_0 4.5) (<= Y_0 -0.5))")
X, H = 0, 1  # tensors: the input, the pre-activations of the ReLUs


def small_draft(text: bytes = SAFE, model: bytes | None = None) -> Draft:
    found = Draft(small.model() if model is None else model, text)
    found.input("X"), found.site("r", 0)
    return found


def certified(records: Records | None, text: bytes = SAFE, sets: tuple[Any, ...] = (), program: int = 0, **columns: Any) -> Case:
    """A certificate for the small network: one tree of case 0, some columns replaced."""

    def case(_: pytest.MonkeyPatch, folder: Path) -> None:
        draft = small_draft(text)
        for groups in sets:
            draft.slopes(*groups)
        draft.tree([0], leaf() if records is None else records, program)
        found = draft.columns()
        found |= {name: np.array(value, found[name].dtype) for name, value in columns.items()}
        check(draft.model, text, pack(draft.manifest(), found), folder)

    return case


def onnx_model(nodes: list[Any], n_in: int, n_out: int, **constants: Any) -> bytes:
    """x [1, n_in] -> y [1, n_out]."""
    value = helper.make_tensor_value_info
    stored = [numpy_helper.from_array(np.asarray(number, np.float32), name) for name, number in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, n_in])], [value("y", 1, [1, n_out])], stored)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def property_of(lower: str, upper: str, unsafe: str, n_in: int = 1, n_out: int = 1) -> bytes:
    names = [f"X_{i}" for i in range(n_in)]
    lines = [f"(declare-const {name} Real)" for name in [*names, *(f"Y_{j}" for j in range(n_out))]]
    lines += [f"(assert (>= {name} {lower}))(assert (<= {name} {upper}))" for name in names]
    return "\n".join([*lines, f"(assert {unsafe})"]).encode()


def of_model(
    model: bytes, text: bytes, semantics: str = "real", records: Records | None = None, program: int = 0,
    names: Callable[[Draft], object] = lambda _: None,
) -> Case:  # fmt: skip
    """A certificate for a model: one tree of case 0."""

    def case(_: pytest.MonkeyPatch, folder: Path) -> None:
        draft = Draft(model, text, semantics)
        names(draft)
        draft.tree([0], leaf() if records is None else records, program)
        check(model, text, draft.bytes(), folder)

    return case


def unary(operator: str, lower: str, upper: str, semantics: str = "real", *inputs: str, **constants: Any) -> Case:
    """y = operator(x)."""
    model = onnx_model([helper.make_node(operator, ["x", *inputs], ["y"])], 1, 1, **constants)
    return of_model(model, property_of(lower, upper, "(>= Y_0 1e30)"), semantics)


def relu_chain(products: int, last: list[Any] | None = None) -> bytes:
    """Gemms of one element with weight 2^120, a Relu after each; `last` reads r."""
    nodes, at = [], "x"
    for k in range(products):
        nodes += [helper.make_node("Gemm", [at, "w"], [f"h{k}"]), helper.make_node("Relu", [f"h{k}"], [f"r{k}" if k < products - 1 else "r"])]
        at = f"r{k}"
    nodes += [helper.make_node("Identity", ["r"], ["y"])] if last is None else last
    return onnx_model(nodes, 1, 1, w=[[2.0**120]])


# ---------------------------------------------------------------- arithmetic

reaches("arithmetic:G:too-many-terms")(lambda *_: arithmetic.G((1 << 40) + 1))
reaches("arithmetic:T:too-many-terms")(lambda *_: arithmetic.T((1 << 40) + 1, np.ones(1)))
reaches("arithmetic:g:too-many-terms")(lambda *_: arithmetic.g(1 << 21))
reaches("arithmetic:finite:dtype")(lambda *_: arithmetic.finite(np.ones(1, np.float32), "here"))


@reaches("arithmetic:probe_machine:machine")
def _(patch: pytest.MonkeyPatch, _: Path) -> None:
    """A machine that flushes subnormal numbers."""
    patch.setattr(arithmetic, "np", SimpleNamespace(ones=np.ones, eye=np.eye, full=lambda n, x: np.where(np.full(n, abs(x)) < 2.0**-1000, 0.0, x)))
    arithmetic.probe_machine()


# ---------------------------------------------------------------- bounds

PAIR = ((H, 1, [0, 1]),)
reaches("bounds:Checker.state:not-finite")(of_model(relu_chain(10), property_of("-1", "1", "(>= Y_0 1e30)")))
TWO = [helper.make_node("Relu", ["h7"], ["s"]), helper.make_node("Mul", ["r", "s"], ["y"])]
reaches("bounds:Checker.state:not-finite 2")(of_model(relu_chain(8, TWO), property_of("0", "1", "(>= Y_0 1e30)")))
HEAVY = multipliers(0, gamma=[1e308], slope=[9.0, 9.0])
reaches("bounds:_Backward.eliminate:not-finite", "arithmetic:finite:not-finite")(certified(HEAVY, sets=(PAIR,)))
SUM = onnx_model([helper.make_node("Gemm", ["x", "w"], ["y"])], 2, 1, w=[[1], [1]])
MOST = multipliers(0, gamma=[1.7e308])
reaches("bounds:Checker.evaluate:not-finite")(of_model(SUM, property_of("-1", "1", "(>= Y_0 0.5)", 2), records=MOST, names=Draft.slopes))


@dataclass(frozen=True, eq=False)
class Unknown(Node):
    """A node that no rule is for."""


def _strange() -> Network:
    nodes = (Input("x", (), (1, 1), None, "X"), Unknown("strange", (0,), (1, 1), None))
    return Network(nodes, (0,), (1,), ("X",), ("Y",), {}, ())


@reaches("bounds:Checker._interval:no-rule")
def _(*_: object) -> None:
    bounds.Checker(_strange(), None).state(1, np.zeros((1, 1)), np.ones((1, 1)), {}, {}, 0)


@reaches("bounds:_Backward._step:no-rule")
def _(patch: pytest.MonkeyPatch, _: Path) -> None:
    checker = bounds.Checker(_strange(), None)
    patch.setattr(checker, "_interval", lambda state, i, node, boxes: (np.zeros((1, 1)), np.ones((1, 1))))
    state = checker.state(1, np.zeros((1, 1)), np.ones((1, 1)), {}, {}, 0)
    checker.lower_bound(state, {1: np.ones((1, 1, 1))}, np.zeros((1, 1)), np.zeros((1, 1)), {})


# ---------------------------------------------------------------- certificate


def _good() -> tuple[dict[str, Any], dict[str, Any]]:
    draft = small_draft()
    draft.slopes((H, 0, [0]))
    draft.tree([0], multipliers(0, gamma=[1.0], slope=[0.5]))
    return draft.manifest(), draft.columns()


def contained(change: Callable[[list[Member]], bytes], limit: int = 1 << 20) -> Case:
    """The container of a good certificate, changed."""

    def case(*_: object) -> None:
        manifest, columns = _good()
        text = json.dumps({"arrays": described(columns), **manifest}).encode()
        members = [Member("manifest.json", text), *(Member(name, column.tobytes()) for name, column in columns.items())]
        certificate.read(change(members), limit)

    return case


def member(**facts: Any) -> Callable[[list[Member]], bytes]:
    """The last member, with some header fields replaced in both headers."""
    return lambda members: zip_file([*members[:-1], replace(members[-1], local=facts, central=facts)])


def manifested(change: Mapping[str, Any] | bytes) -> Case:
    """Some entries of the manifest replaced, or bytes in its place; None takes an entry out."""

    def case(*_: object) -> None:
        manifest, columns = _good()
        if isinstance(change, bytes):
            certificate.read(zip_file([Member("manifest.json", change), *(Member(n, c.tobytes()) for n, c in columns.items())]), 1 << 20)
        found = {"arrays": described(columns), **manifest, **(change if isinstance(change, Mapping) else {})}
        certificate.read(pack({key: value for key, value in found.items() if value is not None}, columns), 1 << 20)

    return case


def arrays(**changes: Any) -> Case:
    """The description of some columns replaced."""
    return manifested({"arrays": {**described(_good()[1]), **changes}})


reaches("certificate:read:zip")(contained(lambda _: b""))
reaches("certificate:read:manifest")(manifested({"arrays": {}}))
reaches("certificate:_members:zip")(contained(lambda members: zip_file(members)[:-1]))
reaches("certificate:_members:zip 2")(contained(lambda members: zip_file(members, end={"comment": 1})))
reaches("certificate:_members:zip 3")(contained(lambda members: zip_file([*members[:-1], members[0]])))
reaches("certificate:_members:limit")(contained(zip_file, limit=7))
reaches("certificate:_members:zip 4")(contained(lambda members: zip_file(members, middle=b"x")))
reaches("certificate:_headers:zip")(contained(member(flags=1)))
reaches("certificate:_headers:zip 2")(contained(lambda members: zip_file([*members[:-1], replace(members[-1], local={"crc": 1})])))
reaches("certificate:_content:zip")(contained(lambda members: zip_file([*members[:-1], replace(members[-1], method=12)])))
reaches("certificate:_content:zip 2")(contained(member(size=1)))
reaches("certificate:_content:zip 3")(contained(member(crc=1)))
reaches("certificate:_manifest:manifest")(manifested(b"{"))
reaches("certificate:_manifest:version")(manifested({"format": 2}))
reaches("certificate:_manifest:manifest 2")(manifested({"model": None}))
reaches("certificate:_manifest:semantics")(manifested({"semantics": "float16"}))
reaches("certificate:_manifest:manifest 3")(manifested({"model": "a"}))
reaches("certificate:_unique:manifest")(manifested(b'{"format": 1, "format": 1}'))
reaches("certificate:_no_number:manifest")(manifested(b'{"format": 1.0}'))
reaches("certificate:_tensors:tensors")(manifested({"tensors": {}}))
reaches("certificate:_tensors:tensors 2")(manifested({"tensors": [{"input": "X"}] * 2}))
reaches("certificate:_tensor:tensors")(manifested({"tensors": [{"input": 1}]}))
reaches("certificate:_tensor:tensors 2")(manifested({"tensors": [{"tensor": "r", "site": 0, "argument": 2}]}))
reaches("certificate:_column:column")(arrays(op={"dtype": "<f8", "shape": [1]}))
reaches("certificate:_column:column 2")(arrays(op={"dtype": "|u1", "shape": [7]}))
reaches("certificate:_column:numbers")(certified(None, beta=[-1.0]))

# ---------------------------------------------------------------- tree

HALF = split(X, 0, 0.0, leaf(), leaf())
SLOPES = multipliers(0, gamma=[1], slope=[0.5, 0.5])
reaches("tree:sizes:tensors")(of_model(small.model(), SAFE, names=lambda draft: draft.site("no", 0)))
reaches("tree:sizes:shift")(certified(None, shift=[1.0]))
reaches("tree:grow:index", "tree:_below:index")(certified(empty(7, 0)))
reaches("tree:grow:index 2")(certified(empty(H, 2)))
reaches("tree:grow:index 3")(certified(leaf(4)))
reaches("tree:grow:index 4")(certified(multipliers(1, gamma=[1])))
reaches("tree:grow:stream")(certified(HALF, threshold=[0.0, 0.0]))
reaches("tree:_run:stream")(certified(split(9, 0, 0.0, leaf(), leaf())))
reaches("tree:_run:stream 2")(certified(HALF[:-1]))
reaches("tree:_cover:cases")(certified(None, tree_count=[2]))
reaches("tree:_cover:cases 2")(certified(None, text=BOTH))
reaches("tree:_slope_sets:sets")(certified(None, set_count=[1]))
reaches("tree:_slope_sets:index")(certified(None, set_count=[1], set_site=[9, 0, 1], set_element=[0]))
reaches("tree:_slope_sets:index 2")(certified(None, set_count=[1], set_site=[1, 2, 1], set_element=[0]))
reaches("tree:_slope_sets:index 3")(certified(None, set_count=[1], set_site=[1, 0, 1], set_element=[2]))
reaches("tree:_slope_sets:sets 2")(certified(None, sets=(((H, 0, [0, 0]),),)))
reaches("tree:_rows:index")(certified(rows(H, 0, [9]) + leaf(), sets=((),)))
reaches("tree:_rows:stream")(certified(rows(X, 0, [0]) + leaf(), sets=((),)))
reaches("tree:_places:stream")(certified(SLOPES, sets=(PAIR,), slope=[0.5]))


@reaches("tree:_run:depth")
def _(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(tree, "DEPTH", 1)
    certified(split(X, 0, 0.0, HALF, leaf()))(patch, folder)


@reaches("tree:_cover:cases 3")
def _(_: pytest.MonkeyPatch, folder: Path) -> None:
    text = small.text("(or (and (<= X_0 0.5) (>= Y_0 4.5)) (and (>= X_0 0.5) (>= Y_0 4.5)))")
    draft = small_draft(text)
    draft.tree([0, 1], leaf())
    check(draft.model, text, draft.bytes(), folder)


# ---------------------------------------------------------------- walk


@reaches("walk:compare:open")
def _(_: pytest.MonkeyPatch, folder: Path) -> None:
    draft = small_draft(CLOSE)
    draft.tree([0], leaf())
    check(draft.model, CLOSE, draft.bytes(), folder, diagnose=str(folder / "diagnosis"))


reaches("walk:Walk._count:leaf", "walk:Walk._fail:?")(certified(leaf(), text=CLOSE))
reaches("walk:Walk._split:threshold")(certified(split(X, 0, 1.0, leaf(), leaf())))
reaches("walk:Walk._known:crossed")(certified(split(H, 0, 3.0, leaf(), refine() + leaf())))
reaches("walk:Walk._cut:no-forms")(certified(clip() + leaf()))
reaches("walk:Walk._slopes:slopes")(certified(multipliers(0, gamma=[1], slope=[1.0]), sets=(((X, 0, [0]),),)))
ECHO = onnx_model([helper.make_node("Identity", ["x"], ["y"])], 1, 1)
reaches("walk:Walk._by_node:unsupported-property")(of_model(ECHO, property_of("0", "1", "(>= (+ X_0 Y_0) 3)")))
LAYERS = onnx_model(
    [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Gemm", ["a", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])], 1, 1, w=[[1]]
)


def _two_sites(draft: Draft) -> None:
    draft.site("a"), draft.site("y")
    draft.slopes((1, 0, [0]))


reaches("walk:Walk._slopes:slopes 2")(
    of_model(LAYERS, property_of("-1", "1", "(>= Y_0 3)"), records=rows(0, 0, [0], [0.5]) + leaf(), names=_two_sites)
)


@reaches("walk:Walk._state:crossed")
def _(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Only a defect of the kernel can make bounds contradict each other at a root: here, intervals that lie beside the values."""
    original = bounds.Checker._affine_interval
    patch.setattr(bounds.Checker, "_affine_interval", lambda self, state, i, node: tuple(end + 10 for end in original(self, state, i, node)))
    certified(leaf(), program=2)(patch, folder)


@reaches("walk:Walk._functionals:no-atoms")
def _(_: pytest.MonkeyPatch, folder: Path) -> None:
    text = property_of("-1", "1", "(<= X_0 0.5)", 2)
    draft = small_draft(text)
    draft.tree([0], leaf())
    check(draft.model, text, draft.bytes(), folder)


@reaches("walk:Walk._count:count")
def _(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Only a defect can count wrongly: here, a leaf of two answers."""
    patch.setattr(walk.Walk, "_closed_by_bound", lambda self, part, state: (np.ones((2, 1), dtype=bool), np.ones(2)))
    certified(leaf())(patch, folder)


# ---------------------------------------------------------------- activations, functions, kernels, shapes

BEYOND, WIDE = np.full(1, np.finfo(np.float64).max), small.text("(>= Y_0 3.5)", -20, 20)
RELU = Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (0.0,))
STEEP = multipliers(0, gamma=[1], slope=[1e308])
reaches("activations:_tangent:domain")(lambda *_: activations.value("tan", 0.0, np.full(1, np.pi / 2)))
reaches("activations:_known:domain")(unary("Atanh", "-1", "1"))
reaches("activations:_crossing:unsupported-function")(lambda *_: activations._crossing(np.zeros_like, -1.0, 1.0))
reaches("activations:bends:unsupported-function")(lambda *_: activations.bends("swish", 1.5))
reaches("functions:interval:not-finite")(unary("Pow", "-1e3", "1e3", "real", "p", p=[999.0]))
reaches("functions:interval:not-finite 2")(unary("Pow", "0", "1e3", "real", "p", p=[1000.0]))
reaches("functions:offsets:not-finite")(lambda *_: functions.offsets(RELU, np.zeros(1), np.zeros(1), -BEYOND, BEYOND))
reaches("functions:offsets:not-finite 2")(certified(STEEP, WIDE, sets=(((H, 0, [0]),),)))
reaches("functions:offsets:not-finite 3")(certified(STEEP, WIDE, sets=(((H, 1, [0]),),)))
reaches("kernels:_pow:domain")(lambda *_: kernels.value("pow", 2000.0, np.ones(1)))
reaches("kernels:value:?")(unary("Log", "-1", "1"))
reaches("kernels:derivative:unsupported-function")(lambda *_: kernels.derivative("gelu", 0.0, np.ones(1)))
reaches("shapes:curvature:unsupported-function")(lambda *_: shapes.curvature(Smooth("pow", 1.0)))
reaches("shapes:curvature:unsupported-function 2")(lambda *_: shapes.curvature(Smooth("elu", -1.0)))
reaches("shapes:defined:domain")(unary("Reciprocal", "-1", "1"))
reaches("shapes:cast:domain")(lambda *_: functions.interval(Pieces(step="int32"), np.zeros(1), np.full(1, 2.0**31)))

# ---------------------------------------------------------------- maps: the reader of models makes only good ones

ONE = np.ones((1, 1, 2))
reaches("maps:_numbers:shape", "maps:_require:?")(lambda *_: maps.Dense(np.ones(2)))
reaches("maps:_numbers:dtype")(lambda *_: maps.Dense(np.ones((1, 1), np.int64)))
reaches("maps:_numbers:not-finite")(lambda *_: maps.Dense(np.full((1, 1), np.nan)))
reaches("maps:_sizes:shape")(lambda *_: maps.Dense(np.ones((1, 1)), outer=0))
reaches("maps:Map._times:dtype")(lambda *_: maps.Dense(np.ones((1, 1))).apply(np.ones(1, np.float32)))
reaches("maps:Map._times:shape")(lambda *_: maps.Dense(np.ones((1, 1))).apply(np.ones(2)))
reaches("maps:Convolution.__init__:shape")(lambda *_: maps.Convolution(np.ones((1, 1)), (1, 1), (), (), (), 1))
reaches("maps:Convolution.__init__:shape 2")(lambda *_: maps.Convolution(ONE, (1, 2, 4), (1,), (1,), (0, 0), 1))
reaches("maps:Convolution.__init__:shape 3")(lambda *_: maps.Convolution(ONE, (1, 1, 1), (1,), (1,), (0, 0), 1))
reaches("maps:Index.__init__:shape")(lambda *_: maps.Index(np.zeros(1), 1))
reaches("maps:Index.__init__:shape 2")(lambda *_: maps.Index(np.array([1], np.int64), 1))
reaches("maps:Diagonal.__init__:shape")(lambda *_: maps.Diagonal(np.ones(1), -np.ones(1)))

# ---------------------------------------------------------------- float32

reaches("measured:Table._rows:float32-not-measured")(unary("Exp", "0", "120", "float32"))
reaches("slack:Run.affine:float32-overflow", "slack:_require:?")(of_model(relu_chain(2), property_of("-1", "1", "(>= Y_0 1e30)"), "float32"))
SQUARED = onnx_model([helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Mul", ["a", "x"], ["y"])], 1, 1)
reaches("slack:Run._rule:float32-overflow")(of_model(SQUARED, property_of("0", "1e25", "(>= Y_0 1e30)"), "float32"))
reaches("slack:Run.step:float32-overflow")(unary("Exp", "0", "88.5", "float32"))
REWRITTEN = [
    helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
    helper.make_node("QuantizeLinear", ["d", "t"], ["e"]), helper.make_node("DequantizeLinear", ["e", "t"], ["y"]),
]  # fmt: skip
reaches("slack:Slack.__init__:float32-no-rule")(of_model(onnx_model(REWRITTEN, 1, 1, s=0.5, t=0.75), property_of("0", "1", "(>= Y_0 2)"), "float32"))
CUBE = onnx_model([helper.make_node("Mul", ["x", "x"], ["q"]), helper.make_node("Mul", ["x", "q"], ["y"])], 1, 1)
reaches("slack:Run._gate:float32-overflow")(of_model(CUBE, property_of("0", "1e13", "(>= Y_0 1e30)"), "float32"))
QUOTIENT = onnx_model([helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Div", ["a", "x"], ["y"])], 1, 1)
reaches("slack:Run._rule:float32-divisor")(of_model(QUOTIENT, property_of("1e-39", "1", "(>= Y_0 1e30)"), "float32"))
SPREAD = onnx_model([helper.make_node("Pow", ["x", "p"], ["y"])], 1, 2, p=[3.0, 3.0])
reaches("slack:Run._rule:float32-no-rule")(of_model(SPREAD, property_of("0", "1", "(>= Y_0 1e30)", 1, 2), "float32"))
reaches("slack:Run._function:float32-divisor", "slack:Run._away:float32-divisor")(unary("Reciprocal", "1e-39", "1", "float32"))
reaches("slack:Run._function:float32-domain 2")(unary("Log", "1e-39", "1", "float32"))
CANCELS = [
    helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Gemm", ["h", "v", "c"], ["s"]), helper.make_node("Sqrt", ["s"], ["y"]),
]  # fmt: skip
ROOT = onnx_model(CANCELS, 1, 1, w=[[1, -1]], v=[[1], [1]], c=[0.5])
reaches("slack:Run._function:float32-domain")(of_model(ROOT, property_of("-1", "1", "(>= Y_0 3)"), "float32", program=1))


@reaches("slack:Run._softmax:float32-softmax")
def _(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Only a table of a runtime whose exp is wrong by half leads there."""
    patch.setattr(Table, "worst", lambda self, *_: (0.5, 0.0))
    model = onnx_model([helper.make_node("Softmax", ["x"], ["y"])], 2, 2)

    def shift(draft: Draft) -> None:
        draft.shift = [0.0]

    of_model(model, property_of("0", "1", "(>= Y_0 3)", 2, 2), "float32", names=shift)(patch, folder)


UNREACHABLE = {
    "walk:Walk._records:no-rule": "the stack machine lets only derive records 3 to 7 pass",
    "walk:Walk._finish:no-rule": "the stack machine lets only endings 0 to 2 and modes 0 to 2 pass",
    "walk:Walk._cut:no-forms 2": "cases are only ever closed below `forms`, and chunks go together only if their forms are of the same functionals",
}


def test_every_place_that_refuses_has_a_case_or_an_excuse() -> None:
    assert not sorted(PLACES.keys() - CASES.keys() - UNREACHABLE.keys())
    assert not sorted((CASES.keys() | UNREACHABLE.keys()) - PLACES.keys()), "these places are gone"
    assert not sorted(CASES.keys() & UNREACHABLE.keys())


@pytest.mark.parametrize("name", CASES)
def test_it_is_reached(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        CASES[name](monkeypatch, tmp_path)
    assert name in _passed(caught.tb), f"{caught.value}, at {sorted(_passed(caught.tb))}"
    rule = name.split(":")[2].split(" ")[0]
    assert caught.value.rule == rule or rule == "?"
