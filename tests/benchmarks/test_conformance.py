"""The operator cases of onnx: a sample here, more in `make test-all`, all in `python -m benchmarks.conformance`; the page is what the table says."""

from __future__ import annotations

import csv
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.conformance import page
from benchmarks.conformance.cases import Case
from benchmarks.conformance.examine import Row, examine
from benchmarks.conformance.listed import LISTED
from benchmarks.conformance.run import COLUMNS, ROOT, TABLE, by_operator

QUICK = ("Relu", "Gemm", "Softmax", "Floor", "Where", "ReduceL2", "And")
SLOW = ("Add", "AveragePool", "Conv", "LayerNormalization", "Resize", "Slice")


def lines() -> list[Mapping[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def made(kind: str, x: object, y: object, **attributes: object) -> Case:
    """A case that claims that `kind` turns x into y."""
    given, wanted = np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in (("x", given), ("y", wanted))]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], **attributes)], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return Case("made", kind, False, model, (given,), (wanted,), 1e-3, 1e-7)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("benchmarks.conformance.runtime.FOLDER", tmp_path_factory.mktemp("conformance"))


def test_a_case_passes_and_says_how() -> None:
    row = examine(made("Relu", [[-1.0, 2.0]], [[0.0, 2.0]]), 50)
    assert (row.outcome, row.varying, row.oracle, row.samples, row.checker) == ("pass", "x", "onnxruntime", 50, "pass")
    assert float(row.linear) == pytest.approx(1, abs=0.2)


def test_a_case_that_no_runtime_agrees_with_shows_nothing() -> None:
    row = examine(made("Relu", [[-1.0, 2.0]], [[0.0, 2.5]]), 20)
    assert row.outcome == "apart" and "onnxruntime: not the outputs of the case; onnx.reference: not the outputs of the case" in row.reason


def test_bounds_that_miss_a_sample_and_evaluation_that_differs_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    case = made("Relu", [[-1.0, 2.0]], [[0.0, 2.0]])
    module = "benchmarks.conformance.examine"
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.propagate", lambda graph, lower, upper: [((lower + upper) / 2,) * 2] * len(graph.nodes))
        assert examine(case, 20).outcome == "wrong"
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.evaluate", lambda graph, inputs: [np.array([[0.0, 2.1]])] * len(graph.nodes))
        assert "instead of" in examine(case, 20).reason
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.load", lambda content: 1 / 0)
        assert examine(case, 20).outcome == "error"


def test_a_form_that_is_not_supported_is_refused() -> None:
    case = made("Relu", [[-1.0, 2.0]], [[0.0, 2.0]])
    case.model.graph.node[0].op_type = "Frobnicate"
    row = examine(case, 20)
    assert row.outcome == "refused" and "Frobnicate" in row.reason


@pytest.mark.parametrize("operator", QUICK)
def test_a_handful_agrees_with_the_table(operator: str) -> None:
    _agrees(operator, 2, 100)


@pytest.mark.slow
@pytest.mark.parametrize("operator", SLOW)
def test_a_sample_agrees_with_the_table(operator: str) -> None:
    _agrees(operator, 20, 1000)


def _agrees(operator: str, cases: int, samples: int) -> None:
    """What passed passes, and what was refused is at most supported by now."""
    known = {line["case"]: line["outcome"] for line in lines()}
    for case in by_operator()[operator][:cases]:
        found: Row = examine(case, samples)
        before = known[case.name]
        better = before in ("refused", "loose") and found.outcome == "pass"
        assert found.outcome == before or better, f"{case.name}: {before} in the table, now {found}"


def test_the_table_is_whole_and_without_a_wrong_answer() -> None:
    found = lines()
    assert {line["case"] for line in found} == {case.name for cases in by_operator().values() for case in cases}
    assert not [line for line in found if {line["outcome"], line["checker"]} & {"wrong", "error"}]
    assert all(line["samples"] == "1000" for line in found if line["outcome"] == "pass")


def test_the_page_is_made_of_the_table() -> None:
    assert (ROOT / "docs/operators.md").read_text(encoding="utf-8") == page.page(lines()), "run python -m benchmarks.conformance"


def test_the_list_is_one_of_operators() -> None:
    known = {f"{s.domain}.{s.name}" if s.domain else s.name for s in onnx.defs.get_all_schemas_with_history()}
    assert known >= LISTED
