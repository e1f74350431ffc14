"""Nothing is forgotten: every file that states facts or lowers operators is reached from its registry, under one name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from graph.errors import MalformedGraph
from graph.functions import FUNCTIONS
from graph.functions import register as register_functions
from graph.lowering import CONSTANT_ONLY, LOWERINGS
from graph.lowering import register as register_lowerings
from tests.architecture.source import ROOT
from verifier.checker.lowering import LOWERINGS as CHECKED

NOT_FUNCTIONS = {"__init__", "facts"}
ENGINE_ONLY: dict[str, str] = {  # operator: why certificates of networks with it cannot be checked
    **dict.fromkeys(("Optional", "OptionalGetElement", "OptionalHasElement"), "onnxruntime has no kernels of it for tensors"),
    **dict.fromkeys(("Unique",), "of constants alone, which exporters fold"),
    **dict.fromkeys((f"ai.onnx.ml.TreeEnsemble{kind}" for kind in ("", "Classifier", "Regressor")), "the engine refuses them too, with a reason"),
    **dict.fromkeys(
        (f"com.microsoft.{kind}" for kind in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")),
        "written by onnxruntime's optimiser when it loads a file, and into none",
    ),
    "com.microsoft.QLinearReduceMean": "onnxruntime has no kernel of it",
}


def imported(init: Path) -> set[str]:
    """Modules of the package that its __init__ imports from."""
    package = ".".join(init.parent.relative_to(ROOT).parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package + "."):
            found.add((node.module or "").removeprefix(package + "."))
    return found


def test_every_function_file_is_registered() -> None:
    init = ROOT / "graph/functions/__init__.py"
    files = {path.stem for path in init.parent.glob("*.py")} - NOT_FUNCTIONS
    assert files <= imported(init), f"not imported in {init}: {files - imported(init)}"
    homes = {builder.__module__.rpartition(".")[2] for builder in FUNCTIONS.values()}
    assert files == homes, f"in graph/functions but in no line of FUNCTIONS: {files - homes}"


def test_every_lowering_is_registered() -> None:
    """A public function lower_* in graph/lowering is in LOWERINGS."""
    registered = {getattr(lowering, "__name__", "") for lowering in LOWERINGS.values()}
    for path in sorted((ROOT / "graph/lowering").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        written = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("lower_")}
        assert written <= registered, f"{path.relative_to(ROOT)}: in no line of LOWERINGS: {written - registered}"


def test_every_operator_of_the_engine_is_one_of_the_checker() -> None:
    """The checker reads models on its own: what it does not know cannot be certified."""
    registry = "verifier/checker/lowering/__init__.py"
    for operator in sorted({f"{domain}.{name}" if domain else name for domain, name in LOWERINGS} | CONSTANT_ONLY):
        known = operator in CHECKED or operator in ENGINE_ONLY
        assert known, f"{operator}: write its lowering for the checker and a line in {registry}, or say in ENGINE_ONLY ({__file__}) why there is none"
        constants_only = operator in CHECKED and CHECKED[operator].lower is None
        assert not constants_only or operator in CONSTANT_ONLY, f"{operator}: the checker reads it on constants only; see {registry}"
    assert not ENGINE_ONLY.keys() & CHECKED.keys()


def test_duplicates_raise() -> None:
    with pytest.raises(MalformedGraph, match="twice"):
        register_functions(*[next(iter(FUNCTIONS.items()))] * 2)
    name, lowering = next((name, lowering) for (_, name), lowering in LOWERINGS.items())
    with pytest.raises(MalformedGraph, match="twice"):
        register_lowerings((name, lowering), (name, lowering))


def test_the_operators_of_the_competition_files_are_supported() -> None:
    """The list of the spine: every operator that occurs in the VNN-COMP instances."""
    needed = (
        "Add BatchNormalization Concat Constant ConstantOfShape Conv ConvTranspose Cos Div Dropout Equal Expand Flatten Gather Gemm LeakyRelu "
        "MatMul Mul Neg Pow ReduceMean ReduceSum Relu Reshape Shape Sigmoid Sin Slice Softmax Split Sub Transpose Unsqueeze Upsample Where"
    ).split()
    missing = set(needed) - {operator for _, operator in LOWERINGS} - CONSTANT_ONLY
    assert not missing
