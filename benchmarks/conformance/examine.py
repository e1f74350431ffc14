"""One case against the engine and the checker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.conformance.cases import Case
from benchmarks.conformance.runtime import COMPLAINTS, NoRuntime, Samples, no_network, sample
from benchmarks.conformance.subject import NotExpressible, Subject, subjects
from bounds.interval import propagate
from bounds.library import crown_bounds
from graph.core import Graph
from graph.errors import MalformedGraph, ModelError
from graph.evaluate import evaluate
from graph.load import Model, load
from graph.selfcheck import running_errors
from graph.simplify import recentre_softmax
from verifier.checker import read_model
from verifier.checker.lowering.evaluate import evaluate as checker_evaluate
from verifier.checker.refusal import Refusal

Array = NDArray[Any]
Bounds = Callable[[Graph, Array, Array, Sequence[Array]], list[tuple[Array, Array]]]

ATOL = 1e-6  # of evaluation against the case's outputs, where the case has a smaller one
SLACK = 2e-5  # times 1 + |y|: what float32 rounding may put the runtime's output outside of bounds over the reals
POINT = 1e-9  # times 1 + |y|: how wide bounds over a point may be, and how far from the value there
BESIDE = 2.0**-16  # times max(1, |x|): a point beside another one
SMALLER = 2.0**-8  # how much smaller the box is where bounds over the usual one are not finite: it may reach over a pole
LARGEST = 1 << 20  # elements of a matrix of linear bounds
REFINED = 1536  # elements of all tensors up to which linear bounds of hidden tensors are computed too
DEFECTS = (*COMPLAINTS, MalformedGraph, MemoryError)  # exceptions that are not refusals


@dataclass(frozen=True)
class Row:
    """What came of one case, the columns of the table.

    `outcome`: pass; refused (our error, `reason`); wrong (a number is); error (another exception); loose (no finite bound); apart (no form
    with float tensors). `varying`: the inputs that varied in what passed. `radius`: of the box, relative to max(1, |x|). `interval`, `linear`:
    the width of the bounds over the box as a multiple of that of the samples, in the median over elements whose samples differ. `checker`:
    pass, refused, wrong, error, or "" where the engine refuses.
    """

    operator: str
    case: str
    expanded: bool
    opset: int
    data: str
    outcome: str
    varying: str = ""
    oracle: str = ""
    samples: int = 0
    radius: str = ""
    interval: str = ""
    linear: str = ""
    checker: str = ""
    reason: str = ""
    checker_reason: str = ""

    def line(self) -> dict[str, str]:
        """The row as text."""
        return {name: ("yes" if value else "no") if isinstance(value, bool) else str(value) for name, value in asdict(self).items()}


class Wrong(Exception):
    """A number that must not be."""


class Loose(Exception):
    """A bound that is not finite although the outputs are."""


def examine(case: Case, count: int) -> Row:
    """The first two forms of the case, and the others until one is not refused: it passes if one form passes and in none anything is wrong;
    the reason is that of the first form."""
    start = Row(case.operator, case.name, case.expanded, case.opset, case.data, "apart")
    rows: list[Row] = []
    try:
        for k, subject in enumerate(subjects(case)):
            if k < 2 or all(row.outcome in ("refused", "apart") for row in rows):
                rows.append(_examine(start, subject, count))
    except NotExpressible as error:
        return replace(start, reason=str(error))
    for outcome in ("wrong", "error", "pass", "loose", "refused", "apart"):
        found = [row for row in rows if row.outcome == outcome]
        if found:
            return _worst_checker(found)
    raise RuntimeError(f"no form of {case.name}")


def _worst_checker(rows: Sequence[Row]) -> Row:
    """The first row, unless the checker is wrong in another or passes only there."""
    for outcome in ("wrong", "error", "pass"):
        for row in rows:
            if row.checker == outcome:
                return row
    return rows[0]


def _examine(start: Row, subject: Subject, count: int) -> Row:
    row = replace(start, varying=" ".join(subject.names))
    try:
        model = load(subject.content)
    except ModelError as error:
        none = no_network(subject)
        return replace(row, outcome="apart" if none else "refused", reason=none or _short(str(error).removeprefix("the model: ")))
    except DEFECTS as error:
        return replace(row, outcome="error", reason=_short(f"load: {type(error).__name__}: {error}"))
    found = _numbers(row, subject, model, count)
    return found if found.outcome != "loose" else _numbers(row, replace(subject, radius=SMALLER * subject.radius), model, count)


def _numbers(row: Row, subject: Subject, model: Model, count: int) -> Row:
    try:
        samples = sample(subject, count)
    except NoRuntime as error:
        return replace(row, outcome="apart", reason=_short(f"no runtime runs it: {error}"))
    row = replace(row, oracle=samples.oracle, samples=samples.count, radius=f"{subject.radius:.2g}")
    try:
        widths = _check_numbers(subject, model, samples)
        row = replace(row, outcome="pass", interval=widths[0], linear=widths[1])
    except Wrong as error:
        row = replace(row, outcome="wrong", reason=str(error))
    except Loose as error:
        row = replace(row, outcome="loose", reason=str(error))
    except DEFECTS as error:
        row = replace(row, outcome="error", reason=_short(f"{type(error).__name__}: {error}"))
    checker, reason = _check_checker(subject, model, samples)
    return replace(row, checker=checker, checker_reason=reason)


def _short(text: str) -> str:
    text = " ".join(text.split()).partition(" Supported are:")[0]
    return text if len(text) <= 200 else text[:197] + "..."


def _check_numbers(subject: Subject, model: Model, samples: Samples) -> tuple[str, str]:
    """Evaluation, then bounds over the box and over the point. Returns the median widths. Raises Wrong or Loose."""
    graph = recentre_softmax(model.graph, [x.astype(np.float64) for x in subject.points])
    _check_evaluation(subject, model, graph, samples)
    boxes = subject.boxes()
    lower, upper = (np.concatenate([box[side].astype(np.float64).reshape(-1) for box in boxes])[None] for side in (0, 1))
    centre = np.concatenate([x.astype(np.float64).reshape(-1) for x in subject.points])[None]
    sizes = [graph.nodes[i].size for i in graph.outputs]
    few = [_chosen(size, lower.size) for size in sizes]
    widths = []
    for name, bounds, chosen in (("interval", _interval, [np.arange(size) for size in sizes]), ("linear", _linear, few)):
        _check_points(name, graph, centre, chosen, bounds)
        over = [(low[0], high[0]) for low, high in bounds(graph, lower, upper, chosen)]
        ends = [(least[part], greatest[part]) for least, greatest, part in zip(samples.lowest, samples.highest, chosen, strict=True)]
        widths.append(_check_box(name, over, ends))
    return widths[0], widths[1]


def _chosen(size: int, inputs: int) -> Array:
    """The elements of an output that get linear bounds: all, or of a large one as many as make a reasonable matrix."""
    count = max(1, LARGEST // (inputs + size))
    return np.arange(size) if size <= count else np.sort(np.random.default_rng(0).permutation(size)[:count])


def _outputs(graph: Graph, values: Sequence[Any]) -> list[Any]:
    return [values[i] for i in graph.outputs]


def _interval(graph: Graph, lower: Array, upper: Array, elements: Sequence[Array]) -> list[tuple[Array, Array]]:
    found = _outputs(graph, propagate(graph, lower, upper))
    return [(low[:, part], high[:, part]) for (low, high), part in zip(found, elements, strict=True)]


def _linear(graph: Graph, lower: Array, upper: Array, elements: Sequence[Array]) -> list[tuple[Array, Array]]:
    return crown_bounds(graph, lower, upper, elements, refine=sum(node.size for node in graph.nodes) <= REFINED)


def _check_evaluation(subject: Subject, model: Model, graph: Graph, samples: Samples) -> None:
    case = subject.case
    declared = [tuple(d.dim_value for d in info.type.tensor_type.shape.dim) for info in onnx.ModelProto.FromString(subject.content).graph.output]
    if declared != [info.shape for info in model.outputs]:
        raise Wrong(f"outputs of shapes {[info.shape for info in model.outputs]} instead of {declared}")
    if subject.expected is not None:
        found = _outputs(graph, evaluate(graph, subject.points))
        wanted = [x[None] for x in subject.expected]
        _check_values("", model, subject.points, found, wanted, case.rtol, max(case.atol, ATOL))
    found = _outputs(graph, evaluate(graph, samples.first))
    _check_values(" at a sample", model, samples.first, found, samples.outputs, 1e-4, 1e-5)


def _check_values(
    where: str, model: Model, points: Sequence[Array], found: Sequence[Array], wanted: Sequence[Array], rtol: float, atol: float
) -> None:
    """Values [batch, size] of every output. A difference beyond the tolerances is one of rounding only where the error analysis of the points
    says so: an argument is beside a jump, and float32 sees it on the other side."""
    try:
        for name, ours, theirs in zip(model.graph.output_names, found, wanted, strict=True):
            _equal(f"output {name}{where}", ours, theirs, rtol, atol)
    except Wrong:
        states = running_errors(model.lowered, [np.asarray(x, dtype=np.float64).reshape(len(found[0]), -1) for x in points])
        for i, ours, theirs in zip(model.lowered.outputs, found, wanted, strict=True):
            known, error = np.isfinite(theirs), states[i].error
            if ours.shape != theirs.shape or not ((np.abs(ours - theirs) <= error) & np.isfinite(error))[known].all():
                raise


def _equal(what: str, ours: Array, theirs: Array, rtol: float, atol: float) -> None:
    if ours.shape != theirs.shape:
        raise Wrong(f"{what}: {ours.size} elements instead of {theirs.size}")
    known = np.isfinite(theirs)
    if not np.allclose(ours[known], theirs[known], rtol=rtol, atol=atol):
        at = int(np.argmax(np.where(known, np.abs(ours - theirs) / (1 + np.abs(theirs)), -1)))
        raise Wrong(f"{what}, element {at}: {ours.reshape(-1)[at]!r} instead of {theirs.reshape(-1)[at]!r}")


def _check_points(name: str, graph: Graph, centre: Array, chosen: Sequence[Array], bounds: Bounds) -> None:
    """Bounds over the point are the value there. Exactly at a jump they may be both sides of it: then beside the point, in a direction drawn."""
    beside = centre + BESIDE * np.maximum(1, np.abs(centre)) * np.random.default_rng(1).uniform(-1, 1, centre.shape)
    for point, last in ((centre, False), (beside, True)):
        values = [x[0] for x in _outputs(graph, evaluate(graph, _split(graph, point)))]
        try:
            for value, part, (low, high) in zip(values, chosen, bounds(graph, point, point, chosen), strict=True):
                _check_point(name, value[part], low[0], high[0])
        except Loose:
            if last:
                raise
        else:
            return


def _split(graph: Graph, point: Array) -> list[Array]:
    return np.split(point, np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1], axis=1)


def _check_point(name: str, value: Array, low: Array, high: Array) -> None:
    """Bounds over a point are the value there, up to rounding; where it is finite."""
    finite = np.isfinite(value)
    room = POINT * (1 + np.abs(value))
    away = finite & ~((np.abs(low - value) <= room) & (np.abs(high - value) <= room))
    if (bad := np.flatnonzero(finite & ((low > value + room) | (high < value - room)))).size:
        k = int(bad[0])
        raise Wrong(f"{name} bounds over the point, element {k}: [{low[k]!r}, {high[k]!r}] without the value {value[k]!r}")
    if (bad := np.flatnonzero(away)).size:
        k = int(bad[0])
        raise Loose(f"{name} bounds over the point, element {k}: [{low[k]!r}, {high[k]!r}], the value is {value[k]!r}")


def _check_box(name: str, bounds: Sequence[tuple[Array, Array]], ends: Sequence[tuple[Array, Array]]) -> str:
    """Bounds over the box contain the samples, up to float32's rounding, and are finite where these are. The median ratio of widths."""
    ratios: list[Array] = []
    for k, ((low, high), (lowest, highest)) in enumerate(zip(bounds, ends, strict=True)):
        known = np.isfinite(lowest) & np.isfinite(highest)
        room = SLACK * (1 + np.maximum(np.abs(lowest), np.abs(highest)))
        outside = known & ((low > lowest + room) | (high < highest - room))
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise Wrong(f"{name} bounds of output {k}, element {i}: [{low[i]!r}, {high[i]!r}] without samples in [{lowest[i]!r}, {highest[i]!r}]")
        if (known & ~(np.isfinite(low) & np.isfinite(high))).any():
            i = int(np.flatnonzero(known & ~(np.isfinite(low) & np.isfinite(high)))[0])
            raise Loose(f"{name} bounds of output {k}, element {i}: [{low[i]!r}, {high[i]!r}], samples in [{lowest[i]!r}, {highest[i]!r}]")
        spread = known & (highest - lowest > room)
        ratios.append((high - low)[spread] / (highest - lowest)[spread])
    together = np.concatenate(ratios)
    return f"{np.median(together):.3g}" if together.size else ""


def _check_checker(subject: Subject, model: Model, samples: Samples) -> tuple[str, str]:
    """Whether the checker's own reader reads the model and computes what the engine computes there."""
    try:
        network = read_model.read(subject.content)
        for k in range(-1, len(samples.first[0])):
            point = subject.points if k < 0 else [x[k] for x in samples.first]
            values = checker_evaluate(network, point)
            graph = recentre_softmax(model.graph, [np.asarray(x, dtype=np.float64).reshape(-1) for x in point])
            for i, ours in zip(network.outputs, _outputs(graph, evaluate(graph, point)), strict=True):
                known = np.isfinite(values[i])  # a softmax of large numbers overflows here, and gets its shift from a certificate only
                _equal("checker", np.where(known, values[i], ours[0]), ours[0], 1e-9, 1e-9)
    except Refusal as refusal:
        return "refused", _short(f"{refusal.rule}: {refusal.place}")
    except Wrong as error:
        return "wrong", str(error)
    except DEFECTS as error:
        return "error", _short(f"{type(error).__name__}: {error}")
    return "pass", ""

