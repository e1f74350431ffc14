"""The operator cases that come with the onnx package: an oracle that is not ours and not a runtime's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from composition_cases import CONTROL
from onnx.backend.test.case.node import collect_testcases

from graph.errors import ModelError
from graph.evaluate import evaluate
from graph.load import load
from graph.lowering import LOWERINGS
from graph.simplify import recentre_softmax

Case = tuple[str, onnx.ModelProto, list[Any], list[Any], float]

CAN_VARY = {"Add", "Sub", "Mul", "Div", "MatMul", "Max", "Min", "Mean", "Sum", "Concat", "Gemm"}
NO_CASE = {"Shape", "Size", "Cast", "Upsample", "Where", "Dropout"}  # or of other types than float32, which benchmarks/conformance feeds
NO_CASE |= CONTROL
NO_CASE |= {"CumProd", "CumSum", "Einsum", "EyeLike", "GlobalLpPool", "OneHot", "ReduceLogSumExp", "Trilu"}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Single-operator cases of supported operators whose first input is float32."""
    found = []
    for case in collect_testcases(None):
        if case.model is None or len(case.model.graph.node) != 1 or ("", case.model.graph.node[0].op_type) not in LOWERINGS:
            continue
        inputs, outputs = case.data_sets[0]
        arrays = [np.asarray(x) for x in inputs if x is not None and not isinstance(x, (list, onnx.SparseTensorProto))]
        if arrays and len(arrays) == len(case.model.graph.input) and arrays[0].dtype == np.float32:
            found.append((case.name, case.model, arrays, list(outputs), case.rtol))
    return found


def baked(model: onnx.ModelProto, inputs: Sequence[Any], variable: int) -> bytes:
    """The model with all inputs from `variable` on as initialisers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for info, value in list(zip(model.graph.input, inputs, strict=True))[variable:]:
        copy.graph.initializer.append(onnx.numpy_helper.from_array(value, info.name))
    return copy.SerializeToString()


def agrees(content: bytes, inputs: Sequence[Any], outputs: Sequence[Any], tolerance: float) -> bool:
    graph = load(content).graph
    values = evaluate(recentre_softmax(graph, inputs), inputs)
    return all(np.allclose(values[i].reshape(y.shape), y, rtol=tolerance, atol=1e-6) for i, y in zip(graph.outputs, outputs, strict=True))


def test_cases_agree_or_are_refused(cases: list[Case]) -> None:
    wrong: list[str] = []
    passed: dict[str, int] = {}
    for name, model, inputs, outputs, tolerance in cases:
        kind = model.graph.node[0].op_type
        all_float = all(x.dtype == np.float32 for x in inputs)
        for variable in {1, len(inputs)} if kind in CAN_VARY and all_float else {1}:
            try:
                good = agrees(baked(model, inputs, variable), inputs[:variable], outputs, tolerance)
            except ModelError:
                continue  # an unsupported form; that supported forms load is asserted below
            if good:
                passed[kind] = passed.get(kind, 0) + 1
            else:
                wrong.append(f"{name} with {variable} variable inputs")
    assert wrong == []
    assert sum(passed.values()) >= 280
    assert {name for _, name in LOWERINGS} - set(passed) <= NO_CASE, sorted(passed)


def test_refusals_are_few_and_known(cases: list[Case]) -> None:
    refused = set()
    for name, model, inputs, _, _ in cases:
        try:
            load(baked(model, inputs, 1))
        except ModelError:
            refused.add((name, model.graph.node[0].op_type))
    known = {
        "BatchNormalization",
        "Clip",
        "ConvTranspose",
        "Dropout",
        "MaxPool",
        "OneHot",
        "Pow",
        *(f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Prod", "SumSquare")),  # over axes without elements
        "ReduceMax",
        "ReduceMin",
        "ReduceSum",
        "Reshape",
        "Resize",
        "Shape",
        "Size",
    }
    assert {kind for _, kind in refused} <= known, sorted(refused)
