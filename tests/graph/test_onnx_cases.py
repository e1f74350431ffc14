"""The operator cases that come with the onnx package: an oracle that is not ours and not a runtime's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from composition_cases import CONTROL
from numpy.typing import NDArray

from graph.errors import ModelError
from graph.evaluate import evaluate
from graph.load import load
from graph.lowering import LOWERINGS
from graph.simplify import recentre_softmax
from tests import onnx_cases

Case = tuple[str, onnx.ModelProto, list[Any], list[Any], float]

CAN_VARY = {"Add", "Sub", "Mul", "Div", "MatMul", "Max", "Min", "Mean", "Sum", "Concat", "Gemm"}
NO_CASE = {"Shape", "Size", "Cast", "Upsample", "Where", "Dropout"}  # or of other types than float32, which benchmarks/conformance feeds
NO_CASE |= CONTROL
NO_CASE |= {"And", "Equal", "Not", "Or", "Xor", "ConvInteger", "DequantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}  # not of float32
NO_CASE |= {"CastLike", "IsInf", "IsNaN"}  # of numbers that are not finite
NO_CASE |= {"CumProd", "CumSum", "Einsum", "EyeLike", "GlobalLpPool", "OneHot", "ReduceLogSumExp", "Trilu"}
HALFWAY = {"test_dynamicquantizelinear": 1.0}  # -2.5 in steps of 5/255 is -127.5, which float32, whose step is rounded, rounds up


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Single-operator cases of supported operators on tensors, the first of finite float32 numbers; sequences are for test_scope.py."""
    found = []
    for case in onnx_cases.cases():
        operators = [(n.domain, n.op_type) for n in (case.model.graph.node if case.model else ())]
        if len(operators) != 1 or operators[0] not in LOWERINGS:
            continue
        inputs, outputs = case.data_sets[0]
        if any(x is None or isinstance(x, (list, onnx.SparseTensorProto)) for x in (*inputs, *outputs)):
            continue
        arrays, results = ([array(x) for x in tensors] for tensors in (inputs, outputs))
        if arrays and len(arrays) == len(case.model.graph.input) and arrays[0].dtype == np.float32 and np.isfinite(arrays[0]).all():
            found.append((case.name, case.model, arrays, results, case.rtol))
    return found


def array(tensor: Any) -> NDArray[Any]:
    """Tensors of types that numpy lacks come as protobufs."""
    return onnx.numpy_helper.to_array(tensor) if isinstance(tensor, onnx.TensorProto) else np.asarray(tensor)


def baked(model: onnx.ModelProto, inputs: Sequence[Any], variable: int) -> bytes:
    """The model with all inputs from `variable` on as initialisers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for info, value in list(zip(model.graph.input, inputs, strict=True))[variable:]:
        copy.graph.initializer.append(onnx.numpy_helper.from_array(value, info.name))
    return copy.SerializeToString()


def agrees(content: bytes, inputs: Sequence[Any], outputs: Sequence[Any], tolerance: float, absolute: float = 1e-6) -> bool:
    graph = load(content).graph
    values = evaluate(recentre_softmax(graph, inputs), inputs)
    return all(np.allclose(values[i].reshape(y.shape), y, rtol=tolerance, atol=absolute) for i, y in zip(graph.outputs, outputs, strict=True))


def test_cases_agree_or_are_refused(cases: list[Case]) -> None:
    wrong: list[str] = []
    passed: dict[str, int] = {}
    for name, model, inputs, outputs, tolerance in cases:
        kind = model.graph.node[0].op_type
        all_float = all(x.dtype == np.float32 for x in inputs)
        for variable in {1, len(inputs)} if kind in CAN_VARY and all_float else {1}:
            try:
                good = agrees(baked(model, inputs, variable), inputs[:variable], outputs, tolerance, HALFWAY.get(name, 1e-6))
            except ModelError:
                continue  # an unsupported form; that supported forms load is asserted below
            if good:
                passed[kind] = passed.get(kind, 0) + 1
            else:
                wrong.append(f"{name} with {variable} variable inputs")
    assert wrong == []
    assert sum(passed.values()) >= 280
    standard = {name for domain, name in LOWERINGS if not domain}  # test_learning.py has the others
    assert standard - set(passed) <= NO_CASE, sorted(passed)


def test_refusals_are_few_and_known(cases: list[Case]) -> None:
    refused = set()
    for name, model, inputs, _, _ in cases:
        try:
            load(baked(model, inputs, 1))
        except ModelError:
            refused.add((name, model.graph.node[0].op_type))
    known = {
        "Attention",  # an output of -infinity: masked scores before the Softmax
        "BatchNormalization",
        "Cast",
        "CastLike",  # to types of 4 bits and less
        "Clip",
        "ConvTranspose",
        "Dropout",
        "MaxPool",
        "OneHot",
        "OptionalGetElement",
        "OptionalHasElement",
        "Pow",
        "QuantizeLinear",  # to types of 8-bit floats, and of 4 bits and less
        *(f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Prod", "SumSquare")),  # over axes without elements
        "ReduceMax",
        "ReduceMin",
        "ReduceSum",
        "Reshape",
        "Resize",
        "Scan",  # version 8
        "Shape",
        "Size",
        "Split",  # of nothing
    }
    assert {kind for _, kind in refused} <= known, sorted(refused)
