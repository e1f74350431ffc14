"""The independent checker: how large its kernel is, what it imports, and what it never calls (DESIGN 7, ARITHMETIC 1)."""

from __future__ import annotations

import ast
import io
import sys
import tokenize

import pytest

from tests.architecture.source import ROOT, Source, product

CHECKER = "verifier/checker/"
KERNEL_LINES = 1_500
# elementary maps and functions, each proven and tested alone; more functions, and facts about all of them; the float32 model; tiles of images;
# what was walked before, with --follow only
OWN_CAPS = {("maps", "kernels"): 300, ("activations", "shapes"): 300, ("slack",): 220, ("factors",): 50, ("crop",): 150, ("ledger",): 120}
READER_CAPS = {  # one format each, compared with another
    "read_property": 280, "read_property2": 225, "compose": 150, "orders": 70, "read_model": 200, "lowering/scope": 200, "rewritten": 100,
}  # fmt: skip
NOT_KERNEL = {
    "__init__": "empty",
    "__main__": "the process around a check",
    "main": "the process around a check",
    "shares": "the processes around a check; what they count is compared in the kernel",
    "network": "data that the readers make and every arithmetic reads",
    "read_model": "a reader, with tests of its own",
    "read_property": "a reader, with tests of its own",
    "read_property2": "a reader, with tests of its own",
    "compose": "what a query says about several models, compared with the engine's",
    "rewritten": "a reader of what a runtime rewrites, with tests of its own",
    "orders": "what cases about softmaxes say in other words, with tests of its own",
    "measured": "a reader of the table of measured activations",
    "order": "heuristics: whichever nodes are taken next, all are, and their count is compared in the kernel",
    "slopes": "heuristics: whatever slope they return gives a bound that holds",
    "exact": "the second arithmetic",
    "exact_bounds": "the second arithmetic",
    "exact_functions": "the second arithmetic",
}
READS_ONNX = (f"{CHECKER}read_model.py", f"{CHECKER}rewritten.py", f"{CHECKER}lowering/")
BANNED = {"einsum", "multi_dot", "fft", "fmin", "fmax", "nan_to_num"}
SHORT_FLOATS = {"float16", "float32", "longdouble", "float128"}
# Builtin min and max lose NaN. They are allowed on Fractions (the second arithmetic has no others), and here, on integers:
INTEGER_EXTREMES = {
    "bounds.py:_meets", "main.py:_walk", "main.py:_limit_memory", "read_property.py:_arithmetic",
}  # fmt: skip
# Pairs that may end with the shorter: the second half of a list, whose length was compared before; outputs that are not asked for.
UNEQUAL_PAIRS = {"lowering/moves.py:pad", "read_model.py:_lower"}
# Short floats are read, widened and compared here; nothing computes in them, but for numpy functions that are exact in them:
READS_SHORT_FLOATS = {"maps.py:_numbers", "read_property.py:_hull"}
FOLDS_CONSTANTS = f"{CHECKER}lowering/"  # on constants of the file, refused where float32 would round (its own tests)


def checker() -> list[Source]:
    return [source for source in product() if source.name.startswith(CHECKER)]


def kernel() -> list[Source]:
    return [source for source in checker() if "/" not in (rest := source.name.removeprefix(CHECKER)) and rest.removesuffix(".py") not in NOT_KERNEL]


def files() -> list[object]:
    return [pytest.param(source, id=source.name.removeprefix(CHECKER)) for source in checker()]


def test_the_kernel_fits_in_1500_lines() -> None:
    """The kernel is every file directly in verifier/checker but those of NOT_KERNEL: what a reviewer has to believe, besides the readers of
    model and property, for an accepted certificate to be a proof.

    What sums products and evaluates elementary functions, the float32 model, what cuts tiles, and what remembers walks, have caps of their own
    (OWN_CAPS).

    A line of code is a physical line that holds a token of the program: not blank, not only a comment, not part of a docstring (proofs
    in docstrings are encouraged).
    """
    sizes = {source.name.removeprefix(CHECKER): lines_of_code(source) for source in kernel()}
    table = "\n".join(f"{lines:6} {name}" for name, lines in sorted(sizes.items(), key=lambda item: -item[1]))
    table += f"\n{sum(sizes.values()):6} in all, of which at most {KERNEL_LINES} without {' '.join(name for names in OWN_CAPS for name in names)}"
    print(table)
    assert len(sizes) > 0 and {source.name.removeprefix(CHECKER).removesuffix(".py") for source in checker()} >= NOT_KERNEL.keys()
    for names, cap in OWN_CAPS.items():
        assert sum(sizes.pop(f"{name}.py") for name in names) <= cap, f"{' and '.join(names)}: more than {cap} lines of code\n{table}"
    assert sum(sizes.values()) <= KERNEL_LINES, f"the kernel has {sum(sizes.values())} lines of code\n{table}"


def test_the_readers_stay_small() -> None:
    sizes = {source.name.removeprefix(CHECKER).removesuffix(".py"): lines_of_code(source) for source in checker()}
    too_long = {name: sizes[name] for name, cap in READER_CAPS.items() if sizes[name] > cap}
    assert not too_long, f"more lines of code than {READER_CAPS}: {too_long}"


def lines_of_code(source: Source) -> int:
    text = (ROOT / source.name).read_text(encoding="utf-8")
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = {
        line for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in layout
        for line in range(token.start[0], token.end[0] + 1)
    }  # fmt: skip
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def test_coverage_is_asked_of_the_whole_kernel() -> None:
    """`make coverage-checker` has a list of its own, and fails below 100% of the branches."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = next(line for line in makefile.splitlines() if line.startswith("KERNEL := ")).removeprefix("KERNEL := ").split()
    assert listed == sorted(source.name.removeprefix(CHECKER).removesuffix(".py") for source in kernel())
    assert "--cov-branch" in makefile and "--fail-under=100" in makefile


@pytest.mark.parametrize("source", files())
def test_the_checker_imports_nothing_of_ours(source: Source) -> None:
    """The standard library, numpy and verifier.checker; the readers of models also onnx. Nothing is imported by a computed name."""
    allowed = set(sys.stdlib_module_names) - {"importlib", "imp", "runpy", "ctypes", "pickle", "marshal"} | {"numpy"}
    if source.name == f"{CHECKER}__main__.py":
        allowed |= {"ctypes"}  # one setting of malloc
    if source.name.startswith(READS_ONNX):
        allowed |= {"onnx", "google"}  # google: the protobuf of onnx, for its errors
    for found in source.imports():
        top = found.module.split(".")[0]
        ours = found.module.startswith("verifier.checker.")
        assert ours or top in allowed or found.module == "importlib.metadata", f"{source.name}:{found.line}: {found.module}"
    called = {ast.unparse(node.func) for node in ast.walk(source.tree) if isinstance(node, ast.Call)}
    assert not called & {"__import__", "eval", "exec", "compile", "importlib.import_module"}, source.name


@pytest.mark.parametrize("source", files())
def test_nothing_in_the_checker_hides_a_number(source: Source) -> None:
    """What ARITHMETIC 1 bans: functions that lose NaN or sum in an order of their own, pairs that end with the shorter, short floats."""
    for where, node in _within_functions(source):
        name, line = _name(node), f"{source.name}:{getattr(node, 'lineno', 0)}"
        assert name not in BANNED and not (isinstance(node, ast.Attribute) and name.startswith("nan") and name != "nan"), f"{line}: {name}"
        assert not isinstance(node, ast.Assert), f"{line}: `python -O` removes it, so raise"
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type is not None else ""
            assert node.type is not None and "Exception" not in caught.replace("(", " ").replace(",", " ").split(), f"{line}: catches everything"
            assert "BaseException" not in caught, f"{line}: catches everything"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
            strict = [keyword.value for keyword in node.keywords if keyword.arg == "strict"]
            allowed = {"True", "False"} if where in UNEQUAL_PAIRS else {"True"}
            assert strict and ast.unparse(strict[0]) in allowed, f"{line}: zip without strict=True in {where}"
        if isinstance(node, ast.Name) and name in ("min", "max"):
            assert "exact" in source.name or where in INTEGER_EXTREMES, f"{line}: builtin {name} in {where} loses NaN"
        if name in SHORT_FLOATS:
            assert where in READS_SHORT_FLOATS or source.name.startswith(FOLDS_CONSTANTS), f"{line}: {name} in {where}"


def test_the_exceptions_are_needed() -> None:
    used = {where for source in checker() for where, node in _within_functions(source) if _name(node) in SHORT_FLOATS | {"min", "max"}}
    assert used >= INTEGER_EXTREMES | READS_SHORT_FLOATS


def _within_functions(source: Source) -> list[tuple[str, ast.AST]]:
    """Every node with "file:innermost function" around it."""
    found: list[tuple[str, ast.AST]] = []

    def visit(node: ast.AST, where: str) -> None:
        for child in ast.iter_child_nodes(node):
            found.append((where, child))
            visit(child, f"{source.name.removeprefix(CHECKER)}:{child.name}" if isinstance(child, ast.FunctionDef) else where)

    visit(source.tree, source.name.removeprefix(CHECKER))
    return found


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
