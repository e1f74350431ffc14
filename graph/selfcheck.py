"""Did we lower the right network? The core graph against onnxruntime, within what float32 rounding explains.

The allowed difference comes from a running error analysis at each point (ARITHMETIC 8): every node of the lowered graph
carries its value h, a bound e of its error in any float32 execution, and the magnitude w that all partial sums stay below,
composed through consecutive affine nodes so that folding and fusing them is covered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.errors import MalformedGraph, ModelError, ModelMismatch
from graph.evaluate import evaluate, input_values, node_value, take_windows
from graph.functions.facts import Function, Pieces
from graph.load import Model
from graph.simplify import recentre_softmax

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = NDArray[Any]
Point = Mapping[str, Array] | Sequence[Array]

UNIT = {"float32": 2.0**-24 * (1 + 2.0**-10), "float64": 2.0**-52}  # float64: their error and ours
SMALLEST = {"float32": 2.0**-126, "float64": 2.0**-1022}
LARGEST = {"float32": 2.0**127, "float64": 2.0**1023}

# |computed f(x) - f(x)| <= relative |f(x)| + absolute, in units of the element type's UNIT, for onnxruntime's kernels
# (measured by tests/graph/test_selfcheck.py; its sigmoid and tanh lose their tails, hence absolute terms).
ACTIVATION_ERROR = {
    "relu": (0, 0),
    "abs": (0, 0),
    "clip": (0, 0),
    "leaky_relu": (1, 0),
    "sigmoid": (8, 4),
    "tanh": (8, 4),
    "exp": (8, 0),
    "log": (4, 4),
    "sqrt": (2, 0),
    "reciprocal": (4, 0),
    "sin": (4, 4),
    "cos": (4, 4),
    "pow": (8, 0),
    "softplus": (8, 4),
    "erf": (8, 4),
}


@dataclass(frozen=True)
class Agreement:
    """What `compare` found: how many output elements were compared, how many could not be (float32 overflow or a domain's
    edge within rounding), and the largest difference as a fraction of what was allowed."""

    compared: int
    skipped: int
    largest_fraction: float


def session(model: Model, *, optimised: bool = True) -> InferenceSession:
    """onnxruntime on the original file: CPU provider, one thread, graph optimisations on or off. Raises ModelError where it refuses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    if model.external and model.path is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.path.parent.resolve()))
    try:
        return onnxruntime.InferenceSession(model.onnx_bytes, options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError) as error:  # onnxruntime's exceptions derive from these
        raise ModelError(f"{model.path or 'the model'}: onnxruntime cannot load it: {error}") from error


def execute(running: InferenceSession, model: Model, point: Point) -> list[Array]:
    """The outputs of one run at `point` (each flat or shaped, one batch element), in the order of `model.outputs`, shaped."""
    arrays = [point[info.name] for info in model.inputs] if isinstance(point, Mapping) else list(point)
    feed = {info.name: np.asarray(x, dtype=info.element_type).reshape(info.shape) for info, x in zip(model.inputs, arrays, strict=True)}
    return [np.asarray(y) for y in running.run([info.name for info in model.outputs], feed)]


def compare(model: Model, points: Sequence[Point]) -> Agreement:
    """Raise ModelMismatch unless the core graph and onnxruntime agree at every point, with optimisations on and off."""
    sessions = {True: session(model), False: session(model, optimised=False)}
    compared = skipped = 0
    largest = 0.0
    for point in points:
        values, allowed = reference_values(model, point)
        for optimised, running in sessions.items():
            for info, ours, limit, theirs in zip(model.outputs, values, allowed, execute(running, model, point), strict=True):
                if theirs.size != ours.size:
                    raise ModelMismatch(f"output {info.name!r}: {ours.size} elements here, shape {theirs.shape} in onnxruntime")
                decided = np.isfinite(limit)
                difference = np.abs(ours - theirs.reshape(-1).astype(np.float64))
                good = difference <= limit
                if not good[decided].all():
                    raise _mismatch(info.name, ours, theirs.reshape(-1), limit, decided & ~good, optimised)
                compared += int(decided.sum())
                skipped += int((~decided).sum())
                fractions = difference[decided & (limit > 0)] / limit[decided & (limit > 0)]
                largest = max(largest, float(fractions.max(initial=0.0)))
    return Agreement(compared, skipped, largest)


def reference_values(model: Model, point: Point) -> tuple[list[Array], list[Array]]:
    """Per output: the core graph's value at `point` and the difference from it that rounding allows (inf: undecided), flat."""
    rounded = [x.astype(info.element_type) for info, x in zip(model.inputs, _arrays(model, point), strict=True)]
    graph, lowered = (recentre_softmax(g, rounded) if g.shifts else g for g in (model.graph, model.lowered))
    values = evaluate(graph, rounded)
    errors = error_bounds(lowered, rounded)
    return [values[i][0] for i in graph.outputs], [errors[i] for i in lowered.outputs]


def _arrays(model: Model, point: Point) -> list[Array]:
    arrays, batch = input_values(model.graph, point, np.float64)
    if batch != 1:
        raise MalformedGraph(f"a point is one batch element, not {batch}")
    return [arrays[i] for i in model.graph.inputs]


def _mismatch(name: str, ours: Array, theirs: Array, limit: Array, bad: Array, optimised: bool) -> ModelMismatch:
    i = int(np.flatnonzero(bad)[0])
    return ModelMismatch(
        f"output {name!r}, element {i}: {ours[i]!r} from the core graph but {theirs[i]!r} from onnxruntime (optimisations {'on' if optimised else 'off'}); "
        f"rounding explains at most {limit[i]:.3g}. The network was misread; please report the model"
    )


@dataclass(frozen=True)
class _Running:
    """One node at one point, flat: value, error bound, magnitude of partial sums, roundings on the way since the last
    non-affine node."""

    value: Array
    error: Array
    magnitude: Array
    roundings: int


def error_bounds(graph: Graph, point: Point) -> list[Array]:
    """For every node a bound, flat, of |float32 execution - exact value| at `point`; inf where none can be given."""
    arrays, _ = input_values(graph, point, np.float64)
    states: list[_Running] = []
    with np.errstate(over="ignore", invalid="ignore"):
        for i, node in graph:
            operands = [states[j] for j in node.inputs]
            if isinstance(node, Input):
                state = _Running(arrays[i][0], np.zeros(node.size), np.abs(arrays[i][0]), 0)
            else:
                value = node_value(graph, node, [x.value[None] for x in operands], 1)[0]
                state = _step(graph, node, value, operands)
            limit = LARGEST[node.origin.element_type]
            sound = np.isfinite(state.value) & (np.abs(state.value) + state.error <= limit) & (state.magnitude <= limit)
            states.append(_Running(state.value, np.where(sound, state.error, np.inf), state.magnitude, state.roundings))
    return [state.error for state in states]


def _step(graph: Graph, node: Node, value: Array, x: list[_Running]) -> _Running:
    unit, tiny = UNIT[node.origin.element_type], SMALLEST[node.origin.element_type]
    match node:
        case Constant():
            return _Running(value, unit * np.abs(value), np.abs(value), 1)
        case Affine():
            return _affine(node, value, x, unit, tiny)
        case Elementwise(function=function):
            relative, absolute = ACTIVATION_ERROR[function.name]
            error = _spread(function, x[0].value, x[0].error) + unit * (relative * np.abs(value) + absolute) + tiny
        case Bilinear(kind="mul"):
            left, right = (np.abs(s.value) for s in x)
            error = left * x[1].error + right * x[0].error + x[0].error * x[1].error
            error = error + _gamma(1, unit) * (np.abs(value) + error) + 2 * tiny
        case Bilinear(kind="matmul"):
            (left, left_error), (right, right_error) = (
                (np.abs(s.value).reshape(graph.nodes[j].shape), s.error.reshape(graph.nodes[j].shape)) for s, j in zip(x, node.inputs, strict=True)
            )
            count = left.shape[-1]
            error = left @ right_error + left_error @ right + left_error @ right_error
            error = (error + _gamma(count, unit) * ((left + left_error) @ (right + right_error))).reshape(-1) + 2 * (count + 1) * tiny
        case Max(windows=windows):
            error = take_windows(x[0].error, windows, 0.0).max(axis=-1) + tiny
        case _:
            raise MalformedGraph(f"no rounding rule for a {type(node).__name__} node")
    return _Running(value, error, np.abs(value) + error, 0)


def _affine(node: Affine, value: Array, x: list[_Running], unit: float, tiny: float) -> _Running:
    exact = len(node.maps) == 1 and node.maps[0].is_exact and node.bias is None
    error = np.zeros(node.size)
    magnitude = np.zeros(node.size) if node.bias is None else np.abs(node.bias)
    for m, operand in zip(node.maps, x, strict=True):
        absolute = m.abs_apply(np.stack([operand.error + (0 if exact else tiny), operand.magnitude]))
        error, magnitude = error + absolute[0], magnitude + absolute[1]
    if exact:
        return _Running(value, error, magnitude, x[0].roundings)
    # products and sums, the bias, and up to three roundings in a constant that the runtime computes itself (1/k, BatchNorm)
    terms = max(m.fan_in() for m in node.maps) + len(node.maps) + 4
    roundings = terms + max(operand.roundings for operand in x)
    return _Running(value, error + _gamma(roundings, unit) * magnitude + 2 * terms * tiny, magnitude, roundings)


def _gamma(count: int, unit: float) -> float:
    """Higham's gamma_n = n u / (1 - n u), for n u < 1/2."""
    return count * unit / (1 - count * unit) if count * unit < 0.5 else float("inf")


def _spread(function: Function, x: Array, error: Array) -> Array:
    """A bound of |f(y) - f(x)| for |y - x| <= error: error times the largest slope in between."""
    if isinstance(function, Pieces):
        return error * max(abs(s) for s in function.slopes)
    lower, upper = x - error, x + error
    inside = (lower > function.domain[0]) & (upper < function.domain[1])
    for pole in function.poles:
        inside &= (upper < pole) | (lower > pole)
    if function.period is not None:
        steepest = np.full_like(x, max(abs(float(function.derivative(np.asarray(p)))) for p in function.inflections))
    else:  # the slope is monotone between inflections, so it is largest at an end or at one of them
        steepest = np.maximum(np.abs(function.derivative(lower)), np.abs(function.derivative(upper)))
        for p in function.inflections:
            if p not in function.poles:
                steepest = np.where((lower < p) & (p < upper), np.maximum(steepest, abs(float(function.derivative(np.asarray(p))))), steepest)
    return np.where(inside, error * steepest, np.inf)
