"""The node cases that come with the onnx package, and what of each is float data."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

Array = NDArray[Any]
Datum = Any  # an array, a list of arrays (a sequence), or None (an empty optional)

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
HALVES = {"float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn", "float8_e8m0fnu"} | {
    "int2", "uint2", "int4", "uint4"
}  # fmt: skip
FUNCTION_BODY = "_expanded"
DOMAINS = ("", "ai.onnx.ml")  # the others are previews


@dataclass(frozen=True, eq=False)
class Case:
    """One case: a model, its inputs in the order of `model.graph.input`, the outputs it must have, and the case's own tolerance.

    `operator` is the single node's; of a case that spells an operator out as its function body (`expanded`) the name of that operator.
    """

    name: str
    operator: str
    expanded: bool
    model: onnx.ModelProto
    inputs: tuple[Datum, ...]
    outputs: tuple[Datum, ...]
    rtol: float
    atol: float

    @property
    def opset(self) -> int:
        """The version of the operator set that the operator is of."""
        domain = self.operator.rpartition(".")[0]
        return next((int(entry.version) for entry in self.model.opset_import if entry.domain == domain), 0)

    @property
    def data(self) -> str:
        """"half": some inputs or outputs are of HALVES (narrower floats, parts of a byte); else "float": there are float32 or float64 numbers in the
        inputs; "integer": integers or booleans; "none"."""
        kinds = {_kind(array) for datum in self.inputs for array in arrays(datum) if array.size}
        if "half" in kinds or any(_kind(array) == "half" for datum in self.outputs for array in arrays(datum)):
            return "half"
        return next((kind for kind in ("float", "integer") if kind in kinds), "none")


def arrays(datum: Datum) -> Sequence[Array]:
    """The tensors of an input or output: one, those of a sequence, or none."""
    if datum is None or isinstance(datum, onnx.SparseTensorProto):
        return []
    return [np.asarray(x) for x in datum] if isinstance(datum, list) else [np.asarray(datum)]


def _kind(array: Array) -> str:
    if array.dtype in FLOATS:
        return "float"
    if array.dtype.name in HALVES:
        return "half"
    return "integer" if array.dtype.kind in "iub" else "none"


@functools.cache
def collect() -> tuple[Case, ...]:
    """All cases of the standard's domains, sorted by operator and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the cases divide by zero on purpose
        found = collect_testcases(None)
    single = {case.name: _single(case.model) for case in found if len(case.model.graph.node) == 1}
    cases = []
    for case in found:
        base, mark, _ = case.name.partition(FUNCTION_BODY)
        operator = single.get(base if mark else case.name)
        if operator is None or operator.rpartition(".")[0] not in DOMAINS:
            continue
        inputs, outputs = case.data_sets[0]
        given, wanted = tuple(map(_datum, inputs)), tuple(map(_datum, outputs))
        cases.append(Case(case.name, operator, bool(mark), case.model, given, wanted, float(case.rtol), float(case.atol)))
    return tuple(sorted(cases, key=lambda case: (case.operator, case.expanded, case.name)))


def _datum(found: Any) -> Datum:
    return numpy_helper.to_array(found) if isinstance(found, onnx.TensorProto) else found


def _single(model: onnx.ModelProto) -> str:
    node = model.graph.node[0]
    domain = "" if node.domain == "ai.onnx" else node.domain
    return f"{domain}.{node.op_type}" if domain else str(node.op_type)
