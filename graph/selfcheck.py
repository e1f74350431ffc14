"""Did we lower the right network? The core graph against onnxruntime, within what float32 rounding explains.

The allowed difference comes from a running error analysis at each point (ARITHMETIC 8): every node of the lowered graph
carries its value h, a bound e of its error in any float32 execution, and the magnitude w that all partial sums stay below,
composed through consecutive affine nodes so that folding and fusing them is covered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.errors import MalformedGraph, ModelError, ModelMismatch
from graph.evaluate import evaluate, input_values, largest, node_value
from graph.functions.facts import Function, Pieces, Steps
from graph.load import Model
from graph.simplify import recentre_softmax

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = NDArray[Any]
Point = Mapping[str, Array] | Sequence[Array]

# Exact as long as float64 is; their lowerings see to their limits.
INTEGERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)))
UNIT = {"float32": 2.0**-24 * (1 + 2.0**-10), "float64": 2.0**-52} | dict.fromkeys(INTEGERS, 0.0)  # float64: their error and ours
SMALLEST = {"float32": 2.0**-126, "float64": 2.0**-1022} | dict.fromkeys(INTEGERS, 0.0)
LARGEST = {"float32": 2.0**127, "float64": 2.0**1023} | dict.fromkeys(INTEGERS, 2.0**53)

# |computed f(x) - f(x)| <= relative |f(x)| + absolute, in units of the element type's UNIT, for onnxruntime's kernels
# (measured by tests/graph/test_selfcheck.py; its sigmoid and tanh lose their tails, hence absolute terms).
ACTIVATION_ERROR = {
    "relu": (0, 0),
    "abs": (0, 0),
    "clip": (0, 0),
    "leaky_relu": (1, 0),
    "lookup": (0, 0),
    "round": (0, 0),
    "sign": (0, 0),
    "step": (0, 0),
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
    "elu": (8, 32),
    "threshold": (0, 0),
    "floor": (0, 0),
    "ceil": (0, 0),
    "nearest": (0, 0),
    "int32": (0, 0),
    "int64": (0, 0),
    "shrink": (1, 0),
    "softsign": (4, 0),
    "tan": (8, 4),
    "asin": (8, 4),
    "atan": (8, 4),
    "sinh": (8, 4),
    "cosh": (8, 0),
    "asinh": (8, 4),
    "acosh": (8, 4),
    "atanh": (8, 4),
    "gelu": (16, 16),
    "hard_swish": (8, 8),
    "mish": (16, 16),
    "swish": (16, 16),
}
TOGETHER = 1 << 21  # numbers of the largest node, of the points that are compared at a time: what is known of a node is 16 MB, or of one point
GATES = ("gelu", "hard_swish", "mish", "swish")  # x times a kernel with an absolute error: absolute errors in units of |x| + 1


@dataclass(frozen=True)
class Agreement:
    """What `compare` found: how many numbers were compared, how many could not be (float32 overflow, or a domain's edge
    within rounding), and the largest difference as a fraction of what rounding allows: of a single operator from the
    operands onnxruntime gave it, and of the whole network. `notes`: where onnxruntime's optimisations change a quantised network."""

    compared: int
    skipped: int
    largest_operator_fraction: float
    largest_output_fraction: float
    notes: tuple[str, ...] = ()


def session(model: Model, *, optimised: bool = True, content: bytes | None = None) -> InferenceSession:
    """onnxruntime on the original file (or on `content` in its place): CPU provider, one thread, graph optimisations on or off.

    Raises ModelError where onnxruntime refuses the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    if model.external and model.path is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.path.parent.resolve()))
    try:
        return onnxruntime.InferenceSession(model.onnx_bytes if content is None else content, options, providers=["CPUExecutionProvider"])
    except _onnxruntime_errors() as error:
        raise ModelError(f"{model.path or 'the model'}: onnxruntime cannot load it: {error}") from error


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a model it does not like; it has no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile", "NotImplemented", "RuntimeException")
    return RuntimeError, ValueError, *(getattr(state, name) for name in names)


def execute(running: InferenceSession, model: Model, point: Point) -> list[Array]:
    """The outputs of one run at `point` (each flat or shaped, one batch element), in the order of `model.outputs`, shaped."""
    arrays = [point[info.name] for info in model.inputs] if isinstance(point, Mapping) else list(point)
    feed = {info.name: np.asarray(x, dtype=info.element_type).reshape(info.shape) for info, x in zip(model.inputs, arrays, strict=True)}
    return _run(running, [info.name for info in model.outputs], feed)


def _run(running: InferenceSession, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
    try:
        return [np.asarray(y) for y in running.run(list(names), dict(feed))]
    except _onnxruntime_errors() as error:
        raise ModelError(f"onnxruntime cannot run the model: {error}") from error


def compare(model: Model, points: Sequence[Point], *, as_written: bool = False) -> Agreement:
    """Raise ModelMismatch unless the core graph and onnxruntime agree at every point (each one batch element). Three ways:

    every operator of the file, from the operands that onnxruntime itself computed, within the rounding of that operator
    (optimisations off); the outputs of the whole network within its running error (optimisations on); and the simplified
    graph with the lowered one within float64 rounding.

    `as_written`: where a network has steps, or its weights are, and with optimisations off onnxruntime agrees, a difference with optimisations
    on is a note. It replaces what stands between quantised tensors by kernels of its own, some of which (of Softmax, of weights of 4 bits)
    compute otherwise than the file says.
    """
    if not points:
        raise MalformedGraph("compare needs at least one point")
    inputs, runtime = _stack(model, points), _runtime(model)
    operators, outputs, steps = list[_Difference](), list[_Difference](), dict[str, float]()
    count = max(1, TOGETHER // max(node.size for node in model.lowered.nodes))
    for k in range(0, len(points), count):
        part = _compare(model, [x[k : k + count] for x in inputs], runtime, as_written)
        operators += part.operators
        outputs += part.outputs
        steps |= {name: max(distance, steps.get(name, 0.0)) for name, distance in part.steps.items()}
    single, whole = _tally(operators), _tally(outputs)
    notes = tuple(_other_steps(name, distance) for name, distance in steps.items())
    return Agreement(single[0] + whole[0], single[1] + whole[1], single[2], whole[2], notes)


@dataclass(frozen=True)
class _Runtime:
    """The model in onnxruntime: as it is written, for the `watched` tensors (None where there are none), and with optimisations on."""

    watched: tuple[str, ...]
    plain: InferenceSession | None
    optimised: InferenceSession
    quantised: bool = False  # some numbers of the file are steps: of weights too, which onnxruntime may multiply with fewer bits


@dataclass(frozen=True)
class _Compared:
    """Of some points: of each operator, of the outputs, and how far an output is off whose steps onnxruntime's optimisations change."""

    operators: list[_Difference]
    outputs: list[_Difference]
    steps: dict[str, float]


def _runtime(model: Model) -> _Runtime:
    watched = tuple(name for name in model.lowered.names if name not in model.lowered.input_names)
    if not watched:
        return _Runtime(watched, None, session(model))
    proto = onnx.ModelProto.FromString(model.onnx_bytes)
    present = {info.name for info in proto.graph.output}
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in watched if name not in present)
    quantised = any(node.op_type == "DequantizeLinear" for node in proto.graph.node)
    return _Runtime(watched, session(model, optimised=False, content=proto.SerializeToString()), session(model), quantised)


def _compare(model: Model, inputs: Sequence[Array], runtime: _Runtime, as_written: bool) -> _Compared:
    """`compare` at the points whose batches are `inputs`."""
    points = range(len(inputs[0]))
    tensors = _run_watched(model, inputs, runtime)
    operators = _check_operators(model, inputs, tensors)
    lowered = running_errors(model.lowered, inputs)
    theirs = [np.stack(column) for column in zip(*(execute(runtime.optimised, model, [x[k] for x in inputs]) for k in points), strict=True)]
    doubles = _own_errors(model, inputs, lowered)
    steps_in_it = runtime.quantised or any(isinstance(node, Elementwise) and _jumps(node.function) for node in model.lowered.nodes)
    plain = tensors if as_written and steps_in_it else {}
    outputs, steps = list[_Difference](), dict[str, float]()
    for info, i, there in zip(model.outputs, model.lowered.outputs, theirs, strict=True):
        there = there.reshape(len(points), -1)
        try:
            outputs.append(_difference(f"output {info.name!r} (onnxruntime's optimisations on)", lowered[i].value, there, lowered[i].error))
        except ModelMismatch:
            if info.name not in tensors:
                raise
            outputs.append(_difference(f"output {info.name!r}", lowered[i].value, tensors[info.name], lowered[i].error))
            distance = float(np.nanmax(np.abs(there - lowered[i].value), initial=0.0))
            if info.name not in plain:
                raise ModelMismatch(_rewritten(info.name, distance)) from None
            steps[info.name] = distance
    known = {} if model.lowered.shifts else {_work(model.lowered, node, lowered): lowered[i].value for i, node in model.lowered}
    simplified = _simplified_outputs(model, inputs, known)
    for info, ours, i, error in zip(model.outputs, simplified, model.lowered.outputs, doubles, strict=True):
        _difference(f"output {info.name!r} after simplification (a defect of ours)", ours, lowered[i].value, error)
    return _Compared(operators, outputs, steps)


def _rewritten(name: str, distance: float) -> str:
    return (
        f"output {name!r}: onnxruntime computes what the file says, but with its optimisations on it is up to {distance:.3g} from that, beyond "
        "rounding. What it makes of the file (quantised parts, scaled products) is no order of the file's operators; if it is quantised, ask with "
        "--semantics real, which speaks of the file as it is written"
    )


def _other_steps(name: str, distance: float) -> str:
    return (
        f"output {name!r}: with its optimisations on, onnxruntime is up to {distance:.3g} from what the file says, since its own kernels for "
        "quantised tensors compute otherwise. unsat speaks of the file as it is written; a witness of sat is what onnxruntime computes"
    )


def _own_errors(model: Model, inputs: Sequence[Array], lowered: list[_Running]) -> list[Array]:
    """What our own float64 arithmetic may do to each output, four times over (two graphs, and constants folded in float64), from the errors in
    the file's type.

    A bound that is convex in the unit roundoff, and (almost) 0 at 0, holds for a smaller one in proportion. That of a function that jumps
    is not convex: then all of it is done again.
    """
    unit = 4 * UNIT["float64"]
    if any(isinstance(node, Elementwise) and _jumps(node.function) for node in model.lowered.nodes):
        again = running_errors(model.lowered, inputs, unit=unit)
        return [again[i].error for i in model.lowered.outputs]
    kinds = {i: model.lowered.nodes[i].origin.element_type for i in model.lowered.outputs}
    return [lowered[i].error * (unit / (UNIT[kinds[i]] or UNIT["float32"])) for i in model.lowered.outputs]


def _jumps(function: Function) -> bool:
    return isinstance(function, Steps) or (isinstance(function, Pieces) and bool(function.jumps()))


def _stack(model: Model, points: Sequence[Point]) -> list[Array]:
    """The points as one batch per input, in the file's precision."""
    columns = [input_values(model.graph, point, np.float64) for point in points]
    if any(batch != 1 for _, batch in columns):
        raise MalformedGraph("a point is one batch element")
    stacked = [np.concatenate([arrays[i] for arrays, _ in columns]) for i in model.graph.inputs]
    return [x.astype(info.element_type) for x, info in zip(stacked, model.inputs, strict=True)]


def _run_watched(model: Model, inputs: Sequence[Array], runtime: _Runtime) -> dict[str, Array]:
    """The value [points, size] of every watched tensor of the file in onnxruntime, without optimisations; of none that is text, of which the
    core graph has the places in a list of labels."""
    if runtime.plain is None:
        return {}
    runs = []
    for k in range(len(inputs[0])):
        feed = {info.name: x[k].reshape(info.shape) for info, x in zip(model.inputs, inputs, strict=True)}
        runs.append(_run(runtime.plain, runtime.watched, feed))
    columns = {name: np.stack(column) for name, column in zip(runtime.watched, zip(*runs, strict=True), strict=True)}
    return {name: y.astype(np.float64).reshape(len(y), -1) for name, y in columns.items() if y.dtype.kind not in "OSU"}


def _check_operators(model: Model, inputs: Sequence[Array], tensors: Mapping[str, Array]) -> list[_Difference]:
    """Each operator of the file from onnxruntime's own operands."""
    graph = model.lowered
    names: dict[int, list[str]] = {}
    for name in tensors:
        names.setdefault(graph.names[name], []).append(name)
    differences: list[_Difference] = []

    def follow(i: int, state: _Running) -> _Running:
        followed = state
        for name in names.get(i, []):  # several names: one tensor in several shapes
            theirs = tensors[name]
            if theirs.shape != state.value.shape:
                raise ModelMismatch(f"tensor {name!r}: {state.value.shape[1]} elements in the core graph, {theirs.shape[1]} in onnxruntime")
            where = f"tensor {name!r} ({', '.join(graph.nodes[i].origin.operators)})"
            differences.append(_difference(where, state.value, theirs, state.error))
            followed = _Running(theirs, np.zeros_like(state.error), np.abs(theirs), 0)
        return followed

    running_errors(graph, inputs, follow=follow)
    return differences


def _work(graph: Graph, node: Node, x: Sequence[_Running]) -> tuple[object, ...]:
    """What `node_value` computes for a node, of the values in the states `x` of the graph's nodes: the same facts of the same arrays."""
    operands = tuple((id(x[j].value), graph.nodes[j].shape) for j in node.inputs)
    match node:
        case Input(name=name):
            return "input", name
        case Constant(value=value):
            return "constant", id(value)
        case Affine(maps=maps, bias=bias):
            return "affine", tuple(map(id, maps)), id(bias), operands
        case Elementwise(function=function):
            return "elementwise", id(function), operands
        case Bilinear(kind=kind):
            return "bilinear", kind, operands
        case Max(windows=windows):
            return "max", id(windows), operands
        case _:
            raise MalformedGraph(f"nothing is known of the value of a {type(node).__name__} node")


def _simplified_outputs(model: Model, inputs: Sequence[Array], known: Mapping[tuple[object, ...], Array]) -> list[Array]:
    """`known`: values by what computes them, of nodes that the simplified graph still has; they are not computed again."""
    graph = model.graph
    if not graph.shifts:
        arrays, batch = input_values(graph, inputs, np.float64)
        states: list[_Running] = []
        for i, node in graph:
            value = known.get(_work(graph, node, states))
            if value is None:
                value = arrays[i] if isinstance(node, Input) else node_value(graph, node, [states[j].value for j in node.inputs], batch)
            states.append(_Running(value, value, value, 0))
        return [states[i].value for i in graph.outputs]
    columns = []
    for k in range(len(inputs[0])):
        point = [x[k] for x in inputs]
        values = evaluate(recentre_softmax(graph, point), point)
        columns.append([values[i] for i in graph.outputs])
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


@dataclass(frozen=True)
class _Difference:
    """Of one tensor: numbers compared, numbers undecided, largest fraction of the allowance."""

    compared: int
    skipped: int
    fraction: float


def _difference(what: str, ours: Array, theirs: Array, allowed: Array) -> _Difference:
    decided = np.isfinite(allowed)
    with np.errstate(invalid="ignore"):
        distance = np.abs(ours - theirs)
        good = distance <= allowed
    bad = np.argwhere(decided & ~good)
    if bad.size:
        k, i = (int(v) for v in bad[0])
        raise ModelMismatch(
            f"{what}, element {i}, point {k}: {float(ours[k, i])!r} from the core graph, {float(theirs[k, i])!r} from the reference; "
            f"rounding explains at most {float(allowed[k, i]):.3g}. The network was misread; please report the model"
        )
    counted = decided & (allowed > 0)
    fraction = float((distance[counted] / allowed[counted]).max(initial=0.0))
    return _Difference(int(decided.sum()), int((~decided).sum()), fraction)


def _tally(differences: Sequence[_Difference]) -> tuple[int, int, float]:
    return sum(d.compared for d in differences), sum(d.skipped for d in differences), max((d.fraction for d in differences), default=0.0)


@dataclass(frozen=True)
class _Running:
    """One node at all points [points, size]: value, error bound, magnitude of partial sums, roundings on the way since the last
    non-affine node."""

    value: Array
    error: Array
    magnitude: Array
    roundings: int


def running_errors(
    graph: Graph, inputs: Sequence[Array], *, unit: float | None = None, follow: Callable[[int, _Running], _Running] | None = None
) -> list[_Running]:
    """For every node its float64 value at each point and a bound of |execution - exact value| for executions in the file's
    precision (or with the given `unit` roundoff); inf where none can be given. `follow` may replace a state as it is computed.
    """
    arrays, batch = input_values(graph, inputs, np.float64)
    states: list[_Running] = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for i, node in graph:
            operands = [states[j] for j in node.inputs]
            if isinstance(node, Input):
                state = _Running(arrays[i], np.zeros_like(arrays[i]), np.abs(arrays[i]), 0)
            else:
                value = node_value(graph, node, [x.value for x in operands], batch)
                state = _step(graph, node, value, operands, UNIT[node.origin.element_type] if unit is None else unit)
                state = _recentred(node, state) if i in graph.shifts else state
            limit = LARGEST[node.origin.element_type]
            sound = np.isfinite(state.value) & (np.abs(state.value) + state.error <= limit) & (state.magnitude <= limit)
            state = replace(state, error=np.where(sound, state.error, np.inf))
            states.append(state if follow is None else follow(i, state))
    return states


def _recentred(node: Node, state: _Running) -> _Running:
    """A softmax row minus its maximum: another shift of the same function, the one that runtimes use."""
    rows = state.value.reshape(len(state.value), -1, node.shape[-1])
    shift = np.broadcast_to(rows.max(axis=-1, keepdims=True), rows.shape).reshape(state.value.shape)
    return replace(state, value=state.value - shift, magnitude=state.magnitude + np.abs(shift))


def _step(graph: Graph, node: Node, value: Array, x: list[_Running], unit: float) -> _Running:
    tiny = SMALLEST[node.origin.element_type]
    match node:
        case Constant():
            return _Running(value, unit * np.abs(value), np.abs(value), 1)
        case Affine():
            return _affine(node, value, x, unit, tiny)
        case Elementwise(function=function):
            relative, absolute = ACTIVATION_ERROR[function.name]
            size = np.abs(x[0].value) + 1 if function.name in GATES else 1.0
            error = _spread(function, x[0].value, x[0].error, tiny) + unit * (relative * np.abs(value) + absolute * size) + tiny
        case Bilinear(kind="mul"):
            left, right = (np.abs(s.value) for s in x)
            error = left * x[1].error + right * x[0].error + x[0].error * x[1].error
            error = error + _gamma(1, unit) * (np.abs(value) + error) + 2 * tiny
        case Bilinear(kind="matmul"):
            error = _matmul_error(graph, node, x, unit, tiny)
        case Max(windows=windows):
            error = largest(x[0].error, windows, 0.0) + tiny
        case _:
            raise MalformedGraph(f"no rounding rule for a {type(node).__name__} node")
    return _Running(value, error, np.abs(value) + error, 0)


def _matmul_error(graph: Graph, node: Node, x: list[_Running], unit: float, tiny: float) -> Array:
    shapes = [(len(s.value), *graph.nodes[j].shape) for s, j in zip(x, node.inputs, strict=True)]
    left, right = (np.abs(s.value).reshape(shape) for s, shape in zip(x, shapes, strict=True))
    left_error, right_error = (s.error.reshape(shape) for s, shape in zip(x, shapes, strict=True))
    count = left.shape[-1]
    error = left @ right_error + left_error @ right + left_error @ right_error
    error = error + _gamma(count, unit) * ((left + left_error) @ (right + right_error)) + 2 * (count + 1) * tiny
    return np.asarray(error.reshape(len(x[0].value), node.size))


def _affine(node: Affine, value: Array, x: list[_Running], unit: float, tiny: float) -> _Running:
    exact = len(node.maps) == 1 and node.maps[0].is_exact and node.bias is None
    error = np.zeros_like(value)
    magnitude = np.zeros_like(value) if node.bias is None else np.broadcast_to(np.abs(node.bias), value.shape)
    for m, operand in zip(node.maps, x, strict=True):
        own = operand.error if operand.error.any() else operand.error[:1]  # of operands that are known exactly one row stands for all
        absolute = m.abs_apply(np.concatenate([own + (0 if exact else tiny), operand.magnitude]))
        error, magnitude = error + absolute[: len(own)], magnitude + absolute[len(own) :]
    if exact:
        return _Running(value, error, magnitude, x[0].roundings)
    # products and sums, the bias, and up to three roundings in a constant that the runtime computes itself (1/k, BatchNorm)
    terms = max(m.fan_in() for m in node.maps) + len(node.maps) + 4 + node.origin.roundings
    roundings = terms + max(operand.roundings for operand in x)
    return _Running(value, error + _gamma(roundings, unit) * magnitude + 2 * terms * tiny, magnitude, roundings)


def _gamma(count: int, unit: float) -> float:
    """Higham's gamma_n = n u / (1 - n u), for n u < 1/2."""
    return count * unit / (1 - count * unit) if count * unit < 0.5 else float("inf")


def _spread(function: Function, x: Array, error: Array, tiny: float) -> Array:
    """A bound of |f(y) - f(x)| for |y - x| <= error: error times the largest slope in between, and all of a jump that y may be across.

    A subnormal argument may be read as 0 (ARITHMETIC 50); an argument that is known to be the breakpoint itself gives the value there.
    """
    if isinstance(function, Pieces):
        spread = error * max(abs(s) for s in function.slopes)
        for b, height in function.jumps():
            spread = spread + np.where((np.abs(x - b) <= error + tiny) & ((x != b) | (error > 0)), height, 0.0)
        return spread
    if isinstance(function, Steps):  # it never falls; an argument that is known is read as it is
        moved = np.where(error > 0, error + tiny, 0.0)
        here = function.value(x)
        return np.asarray(np.maximum(function.value(x + moved) - here, here - function.value(x - moved)))
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
