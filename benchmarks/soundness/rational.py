"""The suite's own evaluation of an ONNX file at a rational point, in exact rationals, written from the ONNX standard.

Nothing of graph/, specs/, bounds/ or verifier/ is used, and no floating point. Smooth functions, and quotients whose denominators grow too long,
are enclosed (`benchmarks.soundness.elementary`); everything else is exact. An operator or an attribute that is not known is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.soundness.elementary import Enclosure
from benchmarks.soundness.operators import RULES
from benchmarks.soundness.property import Property
from benchmarks.soundness.rule import Call, UnknownOperator, Value
from benchmarks.soundness.tensor import Array, Tensor, of_enclosures, of_floats

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def enclose(model: onnx.ModelProto, point: Sequence[Fraction]) -> list[Enclosure]:
    """(lower, upper) for every output element, flat; equal where everything on the way is exact. `point` is flat, as are several inputs or
    outputs one after the other. Raises UnknownOperator, ValueError, ArithmeticError (a function outside its domain, a division by zero)."""
    return bound(model, [(Fraction(v), Fraction(v)) for v in point])


def bound(model: onnx.ModelProto, box: Sequence[Enclosure]) -> list[Enclosure]:
    """The same for every point of a box [(lower, upper), ...] at once, by interval arithmetic in rationals. Raises what `enclose` raises."""
    graph = model.graph
    values: dict[str, Value] = {"": None}
    values |= {t.name: constant(numpy_helper.to_array(t)) for t in graph.initializer}
    free = [item for item in graph.input if item.name not in values]
    shapes = [[d.dim_value if d.HasField("dim_value") else 1 for d in item.type.tensor_type.shape.dim] for item in free]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    if ends[-1] != len(box):
        raise ValueError(f"{len(box)} numbers for {ends[-1]} inputs")
    for k, item in enumerate(free):
        values[item.name] = of_enclosures(box[ends[k] : ends[k + 1]], shapes[k])
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for node in graph.node:
        _step(node, opset, values)
    return [pair for item in graph.output for pair in _output(values[item.name])]


def exact(model: onnx.ModelProto, point: Sequence[Fraction]) -> list[Fraction]:
    """The outputs where they are exact. Raises ValueError where an enclosure is all there is."""
    pairs = enclose(model, point)
    if any(a != b for a, b in pairs):
        raise ValueError("the outputs are enclosed, not exact")
    return [a for a, _ in pairs]


def margin(prop: Property, outputs: Sequence[Enclosure]) -> Enclosure:
    """The least and the largest violation margin that enclosed outputs allow; a positive lower end is a violation."""
    ends = []
    for upper in (False, True):
        cases = []
        for case in prop.cases:
            pairs = ((atom, zip(atom.coefficients, outputs, strict=True)) for atom in case)
            cases.append(min(Fraction(a.bound) - sum((Fraction(c) * y[(c > 0) != upper] for c, y in p), Fraction(0)) for a, p in pairs))
        ends.append(max(cases))
    return ends[0], ends[1]


def constant(array: Array) -> Value:
    """A constant of the file: floats as a Tensor, whole numbers and truth values as they are. Raises ValueError."""
    return of_floats(array) if array.dtype.kind == "f" else array


def _step(node: onnx.NodeProto, opset: int, values: dict[str, Value]) -> None:
    rule = RULES.get(node.op_type)
    if rule is None or node.domain not in ("", "ai.onnx"):
        raise UnknownOperator(f"operator {node.domain}.{node.op_type}")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    call = Call(node.op_type, opset, [values[name] for name in node.input], attributes, len(node.output))
    made = rule(call)
    if attributes:
        raise UnknownOperator(f"attributes {sorted(attributes)} of {node.op_type} (opset {opset})")
    results = made if isinstance(made, list) else [made]
    values.update({name: value for name, value in zip(node.output, results, strict=True) if name})


def _output(value: Value) -> list[Enclosure]:
    if isinstance(value, Tensor):
        return value.enclosures()
    if value is None:
        raise ValueError("an output without a value")
    return [(Fraction(int(v)), Fraction(int(v))) for v in value.reshape(-1)]
