"""The product's source as syntax trees, for tests that read code instead of running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("graph", "specs", "bounds", "verifier", "benchmarks", "soundproof")


@dataclass(frozen=True)
class Import:
    """One imported module, with the line and whether the import stands inside a function or under TYPE_CHECKING."""

    module: str
    line: int
    inside_function: bool
    for_types: bool


@dataclass(frozen=True, eq=False)
class Source:
    """One file of the product. `name` is its path from the repository root."""

    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.split("/")[0]

    def imports(self) -> Iterator[Import]:
        """Every import of the file, absolute."""
        yield from _imports(self.tree, inside=False, types=False)


@cache
def product() -> tuple[Source, ...]:
    """Every Python file of the rooms."""
    files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return tuple(Source(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in files)


def _imports(node: ast.AST, *, inside: bool, types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, inside, types)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                yield Import(f"{'.' * child.level}{child.module or ''}.{alias.name}", child.lineno, inside, types)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(child, inside=inside or function, types=types or guard)
