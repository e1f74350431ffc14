"""Mutation tests of the checker's kernel: `make bench-mutants`, or `python -m benchmarks.mutants [--sample N] [--again] [FILE ...]`.

A mutant is the kernel with one small change: another comparison, sign, constant, rounding direction, a check left out. It is *killed* if
a test fails. Of each file a sample is run, in a copy of the repository; what survives shows what no test looks at. The table
(`benchmarks/results/mutants.csv`) has a line a mutant: file, line, place (the function; numbered if its code has the same mutant twice),
code, mutation, what killed it (a test, or `time`: more than three times the CPU time that the tests take), and a note on those that survive.

A mutant is known by file, place, code and mutation, whatever its line number: changes elsewhere leave its row as it is, and rows of code that is
gone are dropped. The sample is what the table has of a file, topped up in the order of a hash. Rows are not run again; with `--again`,
survivors are, but for those of which `equivalent_mutants.toml` says why no test can or should tell them from the kernel; these are counted apart.
"""

from __future__ import annotations

import argparse
import ast
import copy
import csv
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE, EQUIVALENT = ROOT / "benchmarks/results/mutants.csv", ROOT / "benchmarks/equivalent_mutants.toml"
FOLDERS = ("verifier", "tests", "graph", "specs", "bounds", "benchmarks", "soundproof")
CHECKER, TESTS = "verifier/checker/{}.py", "tests/checker/test_{}.py"
THOROUGH = ("arithmetic_examples", "traps", "exact", "exact_walk")  # for what survives the others
WITHOUT = "not runtime"  # tests of onnxruntime rather than of the kernel
TESTED_BY = {  # file of the kernel -> its tests, the quickest first
    "activations": ("shapes", "kernels"),
    "arithmetic": ("arithmetic", "arithmetic_examples"),
    "bounds": ("bounds", "walk"),
    "certificate": ("certificate",),
    "crop": ("crop",),
    "factors": ("slack", "traps"),
    "forward": ("forward",),
    "functions": ("bounds", "functions"),
    "kernels": ("kernels", "functions"),
    "ledger": ("ledger",),
    "maps": ("maps",),
    "refusal": ("maps", "certificate", "walk"),
    "shapes": ("shapes", "functions"),
    "slack": ("slack", "traps"),
    "state": ("bounds", "walk"),
    "tree": ("tree",),
    "walk": ("walk", "halves"),
}

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Mutant:
    """One line of the table. `place` is the function that holds the changed code, `code` its line, `mutation` the code before and after."""

    file: str
    line: int
    place: str
    code: str
    mutation: str
    killed_by: str = ""
    note: str = ""

    @property
    def key(self) -> Key:
        """What a mutant keeps when lines above it come or go."""
        return self.file, self.place, self.code, self.mutation


# ---------------------------------------------------------------- changes

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
}  # fmt: skip
PAIRS = (
    ("up", "dn"), ("maximum", "minimum"), ("max", "min"), ("argmax", "argmin"), ("any", "all"), ("floor", "ceil"), ("lower", "upper"),
    ("slope_lower", "slope_upper"), ("offset_lower", "offset_upper"), ("low", "high"), ("zeros", "ones"), ("logical_or", "logical_and"),
    ("apply", "magnitude"), ("products", "meets"), ("zeros_like", "ones_like"), ("greater", "greater_equal"),
)  # fmt: skip
SWAPPED = dict([*PAIRS, *((b, a) for a, b in PAIRS)])
LEFT_OUT = ("up", "dn", "finite", "abs")  # functions of one number that a mutant leaves out


def _with(node: ast.AST, field: str, value: object) -> ast.AST:
    changed = copy.deepcopy(node)
    setattr(changed, field, value)
    return changed


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What a mutant may have in the place of `node`."""
    match node:
        case ast.Compare():
            for k, operator in enumerate(node.ops):
                for other in COMPARISONS.get(type(operator), ()):
                    yield _with(node, "ops", [*node.ops[:k], other(), *node.ops[k + 1 :]])
        case ast.BoolOp():
            yield _with(node, "op", ast.And() if isinstance(node.op, ast.Or) else ast.Or())
            for k in range(len(node.values)):
                rest = [*node.values[:k], *node.values[k + 1 :]]
                yield rest[0] if len(rest) == 1 else _with(node, "values", rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.BinOp() if type(node.op) in OPERATORS:
            yield _with(node, "op", OPERATORS[type(node.op)]())
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        case ast.Constant(value=float()):
            yield from (ast.Constant(node.value * 2), ast.Constant(node.value / 2)) if node.value else (ast.Constant(1.0),)
        case ast.Name(id=name) if name in SWAPPED and isinstance(node.ctx, ast.Load):
            yield _with(node, "id", SWAPPED[name])
        case ast.Attribute(attr=name) if name in SWAPPED and isinstance(node.ctx, ast.Load):
            yield _with(node, "attr", SWAPPED[name])
        case ast.Call():
            yield from _calls(node)
        case ast.If(test=test) | ast.While(test=test):
            yield _with(node, "test", ast.UnaryOp(ast.Not(), test))
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Continue():
            yield ast.Pass()


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    if name in LEFT_OUT and node.args:
        yield node.args[0]
    if name == "where" and len(node.args) == 3:
        yield _with(node, "args", [node.args[0], node.args[2], node.args[1]])


def _sites(tree: ast.Module) -> Iterator[tuple[ast.AST, Callable[[ast.AST], None]]]:
    """Every node, and how to put another in its place."""
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, ast.AST):
                yield value, lambda new, parent=parent, field=field: setattr(parent, field, new)  # type: ignore[misc]
            elif isinstance(value, list):
                for k, item in enumerate(value):
                    if isinstance(item, ast.AST):
                        yield item, lambda new, value=value, k=k: value.__setitem__(k, new)  # type: ignore[misc]


def mutants(name: str) -> list[tuple[Mutant, Callable[[], str]]]:
    """All mutants of one file of the kernel, and what writes their texts. Annotations and docstrings are left alone."""
    path = CHECKER.format(name)
    source = (ROOT / path).read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    ignored = {id(part) for node in ast.walk(tree) for part in _unread(node)}
    within, found, times = _functions(tree), list[tuple[Mutant, Callable[[], str]]](), Counter[Key]()
    for node, put in list(_sites(tree)):
        line, new_nodes = getattr(node, "lineno", 1), () if id(node) in ignored else tuple(changes(node))
        for new in new_nodes:
            mutant = Mutant(name, line, within.get(id(node), ""), lines[line - 1].strip(), f"{_shown(node)} -> {_shown(new)}")
            times[mutant.key] += 1
            if times[mutant.key] > 1:
                mutant = replace(mutant, place=f"{mutant.place} {times[mutant.key]}")
            found.append((mutant, partial(_text, tree, node, new, put)))
    return found


def _text(tree: ast.Module, node: ast.AST, new: ast.AST, put: Callable[[ast.AST], None]) -> str:
    put(ast.copy_location(new, node))
    text = ast.unparse(ast.fix_missing_locations(tree))
    put(node)
    return text


def _functions(tree: ast.Module) -> dict[int, str]:
    """The function or class around each node, by id; innermost last, so that it wins."""
    found: dict[int, str] = {}

    def visit(node: ast.AST, path: str) -> None:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            found[id(child)] = inner = f"{path}.{child.name}".strip(".") if named else path  # type: ignore[attr-defined]
            visit(child, inner)

    visit(tree, "")
    return found


def _unread(node: ast.AST) -> Iterator[ast.AST]:
    """Parts that change nothing that is accepted: annotations, what a refusal says (not that it is raised), names of types."""
    roots: list[ast.AST | None] = []
    if isinstance(node, ast.AnnAssign | ast.arg):
        roots.append(node.annotation)
    elif isinstance(node, ast.FunctionDef):
        roots += [node.returns, *node.decorator_list]
    elif isinstance(node, ast.ClassDef):
        roots += node.decorator_list
    elif isinstance(node, ast.Raise):
        roots += [node.exc, node.cause]
    elif isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg == "strict"):  # tests/architecture asks for `strict`
        roots.append(node)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in ("Array", "Slopes", "Bounds", "Diagnose"):
        roots.append(node.value)
    for root in roots:
        yield from ast.walk(root) if root is not None else ()


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(ast.copy_location(copy.deepcopy(node), node))).split())
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-35:]}"


# ---------------------------------------------------------------- running


class Server:
    """Tests in a copy of the repository, each run a fork (tests/fork_server.py)."""

    def __init__(self, folder: Path, thorough: bool) -> None:
        self.folder, self.more = folder, THOROUGH if thorough else ()
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.csv.d", "results"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        command = [sys.executable, str(folder / "tests/fork_server.py"), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, name: str, seconds: float) -> tuple[str, float]:
        """What failed first of the tests of a file, and the CPU time used."""
        tests = [TESTS.format(test) for test in dict.fromkeys((*TESTED_BY[name], *self.more))]
        job = {"tests": [test for test in tests if (self.folder / test).exists()] + ["-m", "not slow", "-k", WITHOUT], "seconds": seconds}
        pipe_in, pipe_out = self.process.stdin, self.process.stdout
        if pipe_in is None or pipe_out is None:
            raise RuntimeError("no pipes")
        pipe_in.write(json.dumps(job) + "\n")
        pipe_in.flush()
        answer = json.loads(pipe_out.readline())
        if str(answer["failed"]).startswith("lost"):
            raise RuntimeError(answer["failed"])
        return str(answer["failed"]), float(answer["seconds"])

    def mutated(self, name: str, text: str, seconds: float) -> tuple[str, float]:
        """The same with another text of the file."""
        path = self.folder / CHECKER.format(name)
        good = path.read_bytes()
        path.write_text(text, encoding="utf-8")
        try:
            return self.run(name, seconds)
        finally:
            path.write_bytes(good)


def read_table() -> dict[Key, Mutant]:
    if not TABLE.exists():
        return {}
    with open(TABLE, encoding="utf-8", newline="") as file:
        rows = [Mutant(**{**row, "line": int(row["line"])}) for row in csv.DictReader(file)]
    return {row.key: row for row in rows}


def write_table(rows: dict[Key, Mutant]) -> None:
    reasons, part = equivalent(), TABLE.with_suffix(".part")
    with open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Mutant)], lineterminator="\n")
        writer.writeheader()
        for row in sorted(rows.values(), key=lambda row: (row.file, row.line, row.place, row.mutation)):
            reason = "" if row.killed_by else reasons.get(row.key, "")
            writer.writerow(asdict(replace(row, note=reason and f"equivalent: {reason}")))
    part.replace(TABLE)


def equivalent() -> dict[Key, str]:
    """Why a survivor changes nothing that a test can or should tell."""
    with open(EQUIVALENT, "rb") as file:
        return {(row["file"], row["place"], row["code"], row["mutation"]): row["why"] for row in tomllib.load(file)["mutant"]}


def fit(name: str, rows: dict[Key, Mutant]) -> list[tuple[Mutant, Callable[[], str]]]:
    """All mutants of a file in the order in which they are drawn, those of the table first; `rows` loses what is gone, and has lines as they are."""
    everything = sorted(mutants(name), key=lambda pair: hashlib.sha256("\n".join(pair[0].key).encode()).digest())
    known = {mutant.key: mutant.line for mutant, _ in everything}
    for key in [key for key in rows if key[0] == name]:
        row = rows.pop(key)
        if key in known:
            rows[key] = replace(row, line=known[key])
    return sorted(everything, key=lambda pair: pair[0].key not in rows)


def measure(name: str, server: Server, sample: int, again: bool, rows: dict[Key, Mutant]) -> None:
    """Run a sample of one file's mutants; the table is written after each."""
    everything = fit(name, rows)
    write_table(rows)
    drawn = everything[: max(sample, sum(key[0] == name for key in rows))]
    open_ = {key for key, row in rows.items() if not row.killed_by} - equivalent().keys() if again else set()
    drawn = [(mutant, text) for mutant, text in drawn if mutant.key not in rows or mutant.key in open_]
    failed, seconds = server.run(name, 600) if drawn else ("", 0.0)
    if failed:
        print(f"{name}: {failed} fails without any mutation", flush=True)
        return
    for mutant, text in drawn:
        killed_by, used = server.mutated(name, text(), 3 * seconds + 5)
        rows[mutant.key] = replace(mutant, killed_by=killed_by.removeprefix("tests/checker/"))
        write_table(rows)
        print(f"{name}:{mutant.line}: {mutant.mutation}: {killed_by or 'SURVIVED'} ({used:.1f} s)", flush=True)


def report(rows: dict[Key, Mutant]) -> None:
    reasons = equivalent()
    for name in [*TESTED_BY, ""]:
        mine = [row for row in rows.values() if name in ("", row.file)]
        left = [row for row in mine if not row.killed_by]
        same = sum(row.key in reasons for row in left)
        if mine:
            killed = len(mine) - len(left)
            print(f"{name or 'all':12} {len(mine):5} mutants, {killed:5} killed: {killed / len(mine):6.1%}, or "
                  f"{killed / max(len(mine) - same, 1):6.1%} without {same:3} equivalent ones")  # fmt: skip
    for file, place, _, mutation in sorted(reasons.keys() - {row.key for row in rows.values() if not row.killed_by}):
        print(f"{EQUIVALENT.name}: no survivor is {file}, {place}: {mutation}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation tests of the checker's kernel.")
    parser.add_argument("files", nargs="*", help="files of the kernel, such as `walk`; all by default")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each file")
    parser.add_argument("--again", action="store_true", help="run survivors of the table again")
    parser.add_argument("--thorough", action="store_true", help="with the slower tests of all rules together too")
    parser.add_argument("--count", action="store_true", help="only count all mutants there are")
    parser.add_argument("--report", action="store_true", help="only report on the table")
    options = parser.parse_args()
    names = options.files or list(TESTED_BY)
    if unknown := set(names) - TESTED_BY.keys():
        parser.error(f"not in the kernel: {' '.join(sorted(unknown))}")
    if options.count:
        print(*(f"{name} {len(mutants(name))}" for name in names), sep="\n")
        return
    rows = read_table()
    if options.report:
        return report(rows)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        server = Server(Path(folder).resolve(), options.thorough)
        for name in names:
            measure(name, server, options.sample, options.again, rows)
    report(rows)


if __name__ == "__main__":
    main()
