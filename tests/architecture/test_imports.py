"""Imports go one way, stand at the top, and bring in only what a room may use (DESIGN 2)."""

from __future__ import annotations

import sys

import pytest

from tests.architecture.source import ROOMS, ROOT, Source, product

MAY_IMPORT = {
    "graph": {"graph"},
    "specs": {"specs"},
    "bounds": {"graph", "specs", "bounds"},
    "verifier": {"graph", "specs", "bounds", "verifier"},
    "benchmarks": {"graph", "specs", "bounds", "verifier", "benchmarks"},
    "soundproof": {"graph", "specs", "bounds", "verifier", "benchmarks", "soundproof"},
}
THIRD_PARTY = {
    "graph": {"numpy", "onnx", "google"},  # google: the protobuf of onnx, for its errors
    "specs": {"numpy"},
    "bounds": {"numpy", "torch", "cvxpy", "scipy"},
    "verifier": {"numpy", "torch", "highspy", "z3"},
    "benchmarks": {"numpy", "onnx", "onnxruntime", "hypothesis", "rich", "jinja2", "matplotlib", "google", "markupsafe", "PIL", "pyarrow", "ray"},
    "soundproof": {"typer", "onnx", "rich"},
}
TRAINS = "benchmarks/soundness/train/"  # models are trained with torch; nothing that states or judges a truth imports them with it
ALSO = {  # folders and files that need more
    TRAINS: {"torch"}, "benchmarks/models/": {"torch", "sklearn", "skl2onnx"}, "benchmarks/fuzz_readers.py": {"atheris"},
    "benchmarks/strategies/broken.py": {"google"}, "benchmarks/fresh.py": {"torch"}, "benchmarks/growth.py": {"torch"},
    "soundproof/api.py": {"numpy", "torch"},  # what callers may hand over
}
READS_ONNX = ("verifier/checker/read_model.py", "verifier/checker/rewritten.py", "verifier/checker/lowering/")  # the checker has a reader of its own
LATE_IMPORTS_ALLOWED = ("soundproof/", "graph/selfcheck.py")  # heavy modules, imported when a command needs them
OTHER_ENVIRONMENTS = "benchmarks/soundness/adapters/foreign/"  # scripts that other verifiers' Pythons run
WITHOUT_TORCH = ("verifier.worker", "verifier.watchdog", "verifier.report", "verifier.problem", "specs.vnnlib", "graph.load", "soundproof.cli",
                 "benchmarks.soundness.train.recipe")
LIGHT = ("verifier.watchdog", "verifier.options", "verifier.result", "verifier.memory", "verifier.statement", "soundproof.cli", "soundproof.summary")


def files() -> list[object]:
    return [pytest.param(source, id=source.name) for source in product()]


@pytest.mark.parametrize("source", files())
def test_imports_go_one_way(source: Source) -> None:
    for found in source.imports():
        top = found.module.split(".")[0]
        assert top, f"{source.name}:{found.line}: relative import; write the absolute one"
        if top in ROOMS:
            assert top in MAY_IMPORT[source.room], f"{source.name}:{found.line}: {source.room} must not import {top}"


@pytest.mark.parametrize("source", files())
def test_third_party_packages_stay_in_their_rooms(source: Source) -> None:
    allowed = THIRD_PARTY[source.room] | ({"onnxruntime"} if source.name in ("graph/selfcheck.py", "verifier/judge.py") else set())
    allowed |= {package for place, packages in ALSO.items() if source.name.startswith(place) for package in packages}
    if source.name.startswith("verifier/checker/"):
        allowed = {"numpy", "onnx", "google"} if source.name.startswith(READS_ONNX) else {"numpy"}
    for found in source.imports():
        top = found.module.split(".")[0]
        if top not in ROOMS and not source.name.startswith(OTHER_ENVIRONMENTS) and top not in sys.stdlib_module_names:
            assert top in allowed, f"{source.name}:{found.line}: {source.room} must not import {top}"


@pytest.mark.parametrize("source", files())
def test_imports_stand_at_the_top(source: Source) -> None:
    if not source.name.startswith(LATE_IMPORTS_ALLOWED):
        late = [f"{source.name}:{found.line}: {found.module}" for found in source.imports() if found.inside_function]
        assert not late, f"imports inside functions: {late}"


def test_the_rooms_have_no_import_cycles() -> None:
    edges = {
        _module(source): {name for found in source.imports() if not found.for_types for name in _candidates(found.module)} for source in product()
    }
    graph = {module: {other for other in used if other in edges and other != module} for module, used in edges.items()}
    while ready := [module for module, used in graph.items() if not used]:
        graph = {module: used - set(ready) for module, used in graph.items() if module not in ready}
    assert not graph, f"modules in or behind an import cycle: {sorted(graph)}"


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_torch_is_not_imported_before_it_is_needed(module: str) -> None:
    assert "torch" not in _reached_from(module)


@pytest.mark.parametrize("module", LIGHT)
def test_the_parent_process_imports_only_the_standard_library(module: str) -> None:
    heavy = {"numpy", "onnx", "onnxruntime", "torch", "rich"}
    assert not heavy & _reached_from(module)


def _module(source: Source) -> str:
    return source.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _candidates(module: str) -> set[str]:
    """`from a.b import c` may name the module a.b.c or something inside a.b."""
    return {module, module.rpartition(".")[0]}


def _reached_from(start: str) -> set[str]:
    """Top-level third-party packages that importing module `start` imports, read off the import lines."""
    by_module = {_module(source): source for source in product()}
    assert start in by_module, f"{start} is not in {ROOT}"
    seen, queue, packages = set(), [start], set()
    while queue:
        module = queue.pop()
        if module in seen or module not in by_module:
            continue
        seen.add(module)
        queue += [parent for parent in [module.rpartition(".")[0]] if parent]
        for found in by_module[module].imports():
            if not found.inside_function and not found.for_types:
                packages.add(found.module.split(".")[0])
                queue += sorted(_candidates(found.module))
    return packages
