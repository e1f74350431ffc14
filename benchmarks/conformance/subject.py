"""A case as a network with float inputs: what varies, and what becomes a constant of the file.

The rewriting is about types only. What does not vary becomes an initialiser; sequences are put together from tensors at the start and taken
apart at the end; an output of integers or booleans goes through a Cast to float32. Integers vary behind a Cast, where that is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.conformance.cases import FLOATS, HALVES, Case, arrays

Array = NDArray[Any]
RADIUS = 2.0**-10  # of the box, times max(1, |x|)
EXACT = 2.0**24  # integers that float32 holds
INSTEAD = 1.5  # of an input that is not finite


@dataclass(frozen=True, eq=False)
class Subject:
    """A model whose inputs all vary: `points` gives their values in the case, `boxes` a small box around each, in the inputs' own dtype.

    `expected` are the case's outputs, flat; None where the case says nothing about the point (inputs that were not finite were replaced).
    """

    case: Case
    content: bytes = field(repr=False)
    names: tuple[str, ...]
    points: tuple[Array, ...]
    expected: tuple[Array, ...] | None
    radius: float = RADIUS

    @property
    def key(self) -> str:
        """A hash of everything that the runtime's answers depend on."""
        digest = hashlib.sha256(self.content)
        digest.update(str(self.radius).encode())
        for point in self.points:
            digest.update(point.tobytes())
        return digest.hexdigest()[:24]

    def boxes(self) -> tuple[tuple[Array, Array], ...]:
        """(lower, upper) of every input, ends that its dtype holds."""
        radii = [self.radius * np.maximum(1, np.abs(x)) for x in self.points]
        return tuple((np.asarray(x - r, dtype=x.dtype), np.asarray(x + r, dtype=x.dtype)) for x, r in zip(self.points, radii, strict=True))


class NotExpressible(Exception):
    """The case has no form with tensors of floats as inputs and outputs."""


def subjects(case: Case) -> Iterator[Subject]:
    """The forms to try, most general first: all float inputs vary; the first alone (as data in front of weights); each other one alone.

    Raises NotExpressible. Where the case has no float32 or float64 data, its other numbers vary behind a Cast, one input at a time.
    """
    given = _tensors(case)
    floats = [name for name, x in given.items() if x.dtype in FLOATS and x.size]
    finite = [name for name in floats if np.isfinite(given[name]).all()]
    if floats and not finite:
        yield _bake(case, given, floats, replaced=True)
        return
    if finite:
        chosen = [finite, *([name] for name in finite)] if len(finite) > 1 else [finite]
        yield from (_bake(case, given, names) for names in chosen)
        return
    numbers = [name for name, x in given.items() if x.size and (x.dtype.kind in "iub" or x.dtype.name in HALVES)]
    small = [name for name in numbers if bool((np.abs(given[name].astype(np.float64)) <= EXACT).all())]
    if not small:
        raise NotExpressible("no numbers among its inputs" if not numbers else "its integers are beyond what float32 holds")
    yield from (_bake(case, given, names, cast=True) for names in ([small, *([n] for n in small)] if len(small) > 1 else [small]))


def _tensors(case: Case) -> dict[str, Array]:
    """The input tensors by name; those of a sequence are called NAME_0, NAME_1 and so on."""
    found: dict[str, Array] = {}
    for info, datum in zip(case.model.graph.input, case.inputs, strict=False):
        if isinstance(datum, onnx.SparseTensorProto):
            raise NotExpressible("a sparse input")
        if isinstance(datum, list):
            found.update({f"{info.name}_{k}": x for k, x in enumerate(arrays(datum))})
        elif datum is not None:
            found[f"{info.name}_value" if info.type.WhichOneof("value") == "optional_type" else info.name] = np.asarray(datum)
    if any(x.dtype.kind in "OUSc" for x in found.values()):
        raise NotExpressible("an input of strings or complex numbers")
    return found


def _bake(case: Case, given: dict[str, Array], names: list[str], *, cast: bool = False, replaced: bool = False) -> Subject:
    """The case with the inputs `names` varying, and all others as initialisers."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    before = list(_before(case))
    after, outputs = _after(case)
    points = {name: given[name].astype(np.float32) if cast else given[name] for name in names}
    if replaced:
        points = {name: np.where(np.isfinite(x), x, x.dtype.type(INSTEAD)) for name, x in points.items()}
    if cast:
        types = {name: helper.np_dtype_to_tensor_dtype(given[name].dtype) for name in names}
        before = [helper.make_node("Cast", [f"{name}_float"], [name], to=kind) for name, kind in types.items()] + before
        points = {f"{name}_float": x for name, x in points.items()}
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in points.items())
    graph.output.extend(helper.make_tensor_value_info(name, kind, x.shape) for name, kind, x in outputs)
    graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in given.items() if name not in names)
    if (before or after) and not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 21))
    expected = None if replaced else tuple(x.astype(np.float64).reshape(-1) for _, _, x in outputs)
    return Subject(case, model.SerializeToString(), tuple(points), tuple(points.values()), expected)


def _before(case: Case) -> Iterator[onnx.NodeProto]:
    """What makes sequences and optional values out of tensors."""
    for info, datum in zip(case.model.graph.input, case.inputs, strict=False):
        kind = info.type.WhichOneof("value")
        inner = info.type.optional_type.elem_type if kind == "optional_type" else info.type
        sequence = inner.WhichOneof("value") == "sequence_type"
        held = f"{info.name}_held" if kind == "optional_type" else info.name
        if isinstance(datum, list) and datum:
            yield helper.make_node("SequenceConstruct", [f"{info.name}_{k}" for k in range(len(datum))], [held])
        elif isinstance(datum, list):
            yield helper.make_node("SequenceEmpty", [], [held], dtype=inner.sequence_type.elem_type.tensor_type.elem_type)
        if kind == "optional_type" and datum is None:
            yield helper.make_node("Optional", [], [info.name], type=inner)
        elif kind == "optional_type":
            yield helper.make_node("Optional", [held if sequence else f"{info.name}_value"], [info.name])


def _after(case: Case) -> tuple[list[onnx.NodeProto], list[tuple[str, int, Array]]]:
    """What makes float tensors out of the outputs, and these: name, element type, value."""
    nodes, found = [], []
    for info, datum in zip(case.model.graph.output, case.outputs, strict=True):
        if datum is None or isinstance(datum, onnx.SparseTensorProto):
            raise NotExpressible("an output that is no tensor")
        sequence = isinstance(datum, list)
        parts = [(f"{info.name}_{k}" if sequence else info.name, x) for k, x in enumerate(arrays(datum))]
        if sequence:
            for k, (name, _) in enumerate(parts):
                nodes.append(helper.make_node("Constant", [], [f"{name}_at"], value=numpy_helper.from_array(np.array(k, np.int64))))
                nodes.append(helper.make_node("SequenceAt", [info.name, f"{name}_at"], [name]))
        for name, value in parts:
            if value.dtype.kind in "OUSc":
                raise NotExpressible("an output of strings or complex numbers")
            if value.dtype in FLOATS:
                found.append((name, helper.np_dtype_to_tensor_dtype(value.dtype), value))
            else:
                nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
                found.append((f"{name}_float", TensorProto.FLOAT, value))
    if not any(value.size for _, _, value in found):
        raise NotExpressible("its outputs have no elements")
    return nodes, found
