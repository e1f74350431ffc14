"""Habits that keep proofs sound, checked on the syntax trees of the product."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.source import ROOT, Source, product

LONGEST_FUNCTION = 60
LONGER_FUNCTIONS: dict[str, int] = {}  # "file:function": lines, each with a reason
NAN_HIDING = {"fmin", "fmax", "nan_to_num", "nanmin", "nanmax", "nansum", "nanmean", "nan_to_num_"}
FLOAT_ROOMS = ("bounds/", "verifier/")


def files() -> list[object]:
    return [pytest.param(source, id=source.name) for source in product()]


@pytest.mark.parametrize("source", files())
def test_no_assert(source: Source) -> None:
    found = [node.lineno for node in ast.walk(source.tree) if isinstance(node, ast.Assert)]
    assert not found, f"{source.name}: assert in lines {found}; `python -O` removes it, so raise"


@pytest.mark.parametrize("source", files())
def test_no_blanket_except(source: Source) -> None:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and not _passes_on(node):
            caught = {"everything"} if node.type is None else {ast.unparse(part) for part in _parts(node.type)}
            assert not caught & {"everything", "Exception", "BaseException"}, f"{source.name}:{node.lineno}: catches {caught}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            caught = {ast.unparse(part) for part in node.args}
            assert not caught & {"Exception", "BaseException"}, f"{source.name}:{node.lineno}: suppresses {caught}"


@pytest.mark.parametrize("source", files())
def test_no_star_imports_and_no_mutable_defaults(source: Source) -> None:
    assert not any(found.module.endswith(".*") for found in source.imports()), source.name
    for function in _functions(source.tree):
        defaults = [*function.args.defaults, *(d for d in function.args.kw_defaults if d is not None)]
        mutable = [d.lineno for d in defaults if isinstance(d, ast.List | ast.Dict | ast.Set)]
        assert not mutable, f"{source.name}: {function.name} has a mutable default"


@pytest.mark.parametrize("source", files())
def test_functions_fit_on_a_screen(source: Source) -> None:
    for function in _functions(source.tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        limit = LONGER_FUNCTIONS.get(f"{source.name}:{function.name}", LONGEST_FUNCTION)
        assert lines <= limit, f"{source.name}:{function.lineno}: {function.name} has {lines} lines"


@pytest.mark.parametrize("source", files())
def test_nothing_hides_nan(source: Source) -> None:
    if source.name.startswith(FLOAT_ROOMS):
        found = [(node.attr, node.lineno) for node in ast.walk(source.tree) if isinstance(node, ast.Attribute) and node.attr in NAN_HIDING]
        assert not found, f"{source.name}: {found} turn NaN or an overflow into an ordinary number; select by isfinite instead"


@pytest.mark.parametrize("source", files())
def test_public_names_spell_out_lower_and_upper(source: Source) -> None:
    for node in ast.walk(source.tree):
        names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        if isinstance(node, ast.FunctionDef):
            names += [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
        short = [name for name in names if not name.startswith("_") and re.search(r"(^|_)(lb|ub)(_|s?$)", name)]
        assert not short, f"{source.name}:{node.lineno}: {short}"


def test_the_engine_knows_no_benchmark() -> None:
    """Whatever is chosen is chosen from structure: no name of a benchmark, a tool's network or a category occurs."""
    names = re.compile(
        r"acas|mnist|cifar|oval|marabou|nn4sys|tllverify|safenlp|cgan|collins|dist_shift|vggnet|carvana|reach_prob|rl_bench|sri_resnet"
        r"|resnet|metaroom|cora\b|yolo|malbeware|cersyve|linearize|ml4acopf|traffic_signs|lsnc",
        re.IGNORECASE,
    )
    for folder in ("verifier", "bounds"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not names.search(line), f"{path.relative_to(ROOT)}:{number}: names a benchmark: {line.strip()}"


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether the handler only cleans up: it ends in a bare `raise`."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _parts(caught: ast.expr) -> list[ast.expr]:
    return caught.elts if isinstance(caught, ast.Tuple) else [caught]
