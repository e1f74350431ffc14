"""Properties: what must hold in a region, as the cases in which it does not. Numbers are exact; a tie is unsafe (VNN-COMP's convention)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from benchmarks.certify import exact
from benchmarks.certify.compose import Draft, Judged, Transform
from benchmarks.certify.errors import InputError, UsageError
from benchmarks.certify.policy import Check
from benchmarks.certify.regions import MOST_BOXES, Region, Subject, extended
from specs import vnnlib
from specs.canonical import Atom
from specs.errors import PropertyError

Cases = list[tuple[Atom, ...]]


@dataclass(frozen=True)
class Wrapped:
    """How outputs become what atoms speak of: y [outputs]; None, None: y are the outputs of one copy of the network."""

    outputs: int
    transform: Transform | None = None
    judged: Judged | None = None


Judge = Callable[[Subject, Region, int | None, int, Mapping[str, Any], str], tuple[Region, Wrapped, Cases]]


def judge(check: Check, subject: Subject, region: Region, label: int | None, outputs: int, where: str) -> tuple[Region, Wrapped, Cases]:
    """The region (with what the property adds to it), the form of y, and the unsafe cases. Raises UsageError or InputError."""
    return JUDGES[check.property](subject, region, label, outputs, check.settings, where)


def wants_label(check: Check) -> bool:
    """Whether the property is about the sample's label."""
    return check.property in ("top1", "topk", "targeted")


def asks(check: Check, label: int | None) -> bool:
    """Whether there is something to ask about a sample of this label."""
    return not (check.property == "targeted" and label == check.settings.get("target"))


def correct(outputs: Sequence[float], label: int, threshold: Fraction = Fraction(0)) -> bool:
    """Whether the network classifies so that the label wins strictly; one output is compared with the threshold."""
    if len(outputs) == 1:
        return outputs[0] > threshold if label == 1 else outputs[0] < threshold
    return all(outputs[label] > other for i, other in enumerate(outputs) if i != label)


def predicted(outputs: Sequence[float], threshold: Fraction = Fraction(0)) -> int:
    """The class that the network says."""
    return int(outputs[0] > threshold) if len(outputs) == 1 else max(range(len(outputs)), key=lambda i: outputs[i])


def threshold(check: Check | None, where: str = "threshold") -> Fraction:
    """What one output is compared with."""
    return Fraction(0) if check is None or "threshold" not in check.settings else exact.number(check.settings["threshold"], where)


def top1(subject: Subject, region: Region, label: int | None, outputs: int, settings: Mapping[str, Any], where: str) -> tuple[Region, Wrapped, Cases]:
    """The label scores more than every other class; of one output: it stays on its side of `threshold`."""
    label = _label(label, outputs, where)
    if outputs == 1:
        limit = exact.number(settings.get("threshold", 0), f"{where} threshold")
        sign = Fraction(1 if label == 1 else -1)
        return region, Wrapped(1), [(Atom((("Y", 0, sign),), sign * limit),)]
    return region, Wrapped(outputs), [(beats(other, label),) for other in range(outputs) if other != label]


def beats(other: int, label: int) -> Atom:
    """Y_label <= Y_other."""
    return Atom((("Y", label, Fraction(1)), ("Y", other, Fraction(-1))), Fraction(0))


def _label(label: int | None, outputs: int, where: str) -> int:
    classes = max(outputs, 2)
    if label is None:
        raise InputError(f"{where}: the samples have no labels")
    if not 0 <= label < classes:
        raise InputError(f"{where}: the label {label} is not among the {classes} classes of the network")
    return label


def topk(subject: Subject, region: Region, label: int | None, outputs: int, settings: Mapping[str, Any], where: str) -> tuple[Region, Wrapped, Cases]:
    """The label stays among the k best: unsafe where some k others score at least as much."""
    label, k = _label(label, outputs, where), settings.get("k")
    if not isinstance(k, int) or not 1 <= k < outputs:
        raise UsageError(f"{where}: k must be a whole number from 1 to {outputs - 1}")
    if math.comb(outputs - 1, k) * len(region.boxes) > MOST_BOXES:
        raise UsageError(f"{where}: {math.comb(outputs - 1, k)} sets of {k} classes; that is too many")
    others = [c for c in range(outputs) if c != label]
    return region, Wrapped(outputs), [tuple(beats(other, label) for other in chosen) for chosen in itertools.combinations(others, k)]


def targeted(
    subject: Subject, region: Region, label: int | None, outputs: int, settings: Mapping[str, Any], where: str
) -> tuple[Region, Wrapped, Cases]:
    """Class `target` scores less than the label."""
    label, target = _label(label, outputs, where), settings.get("target")
    if not isinstance(target, int) or not 0 <= target < outputs:
        raise UsageError(f"{where}: target must be a class, 0 to {outputs - 1}")
    return region, Wrapped(outputs), [(beats(target, label),)]


def in_range(
    subject: Subject, region: Region, label: int | None, outputs: int, settings: Mapping[str, Any], where: str
) -> tuple[Region, Wrapped, Cases]:
    """lower[j] <= Y_j <= upper[j]; a single number is for every output, an empty text for none."""
    cases: Cases = []
    for name, sign in (("lower", 1), ("upper", -1)):
        given = settings.get(name, "")
        limits = given if isinstance(given, list) else [given] * outputs
        if len(limits) != outputs:
            raise UsageError(f"{where}: {len(limits)} numbers in {name}; the network has {outputs} outputs")
        for j, limit in enumerate(limits):
            if limit not in ("", None):
                cases.append((Atom((("Y", j, Fraction(sign)),), sign * exact.number(limit, f"{where} {name}"), strict=True),))
    if not cases:
        raise UsageError(f"{where}: give lower, upper or both")
    return region, Wrapped(outputs), cases


def monotone(
    subject: Subject, region: Region, label: int | None, outputs: int, settings: Mapping[str, Any], where: str
) -> tuple[Region, Wrapped, Cases]:
    """Raising `feature` by up to `step` (within the declared range) never lowers the score of class `output` by more than `tolerance`; with
    direction = "decreasing", never raises it. Two copies of the network; the last number of x is by how much it is raised."""
    i = subject.place(settings.get("feature"), where)
    step, tolerance = (exact.number(settings.get(name, ""), f"{where} {name}") for name in ("step", "tolerance"))
    direction = settings.get("direction", "increasing")
    if step <= 0 or tolerance <= 0 or direction not in ("increasing", "decreasing"):
        raise UsageError(f"{where}: step and tolerance must be positive, direction increasing or decreasing")
    if region.transform is not None or region.norm is not None:
        raise UsageError(f"{where}: monotonicity goes with regions point, linf, l0, ranges and patch")
    n = len(subject.values)

    def transform(draft: Draft, x: str) -> Sequence[str]:
        first, moved = np.eye(n + 1, n), np.eye(n + 1, n)
        moved[n, i] = 1
        second = draft.linear(x, moved)
        return draft.linear(x, first), second if subject.high is None else draft.op("Min", second, draft.constant(float(subject.high)))

    sign = 1 if direction == "increasing" else -1
    judged = _difference(outputs, _which(settings, outputs, where))
    atom = Atom((("Y", 0, Fraction(sign)),), -tolerance, strict=True)
    return extended(region, Fraction(0), step), Wrapped(1, transform, judged), [(atom,)]


def fairness(
    subject: Subject, region: Region, label: int | None, outputs: int, settings: Mapping[str, Any], where: str
) -> tuple[Region, Wrapped, Cases]:
    """The score of class `output` differs by at most `tolerance` between `values`[0] and `values`[1] (0 and 1) of `feature`, all else alike."""
    i = subject.place(settings.get("feature"), where)
    tolerance = exact.number(settings.get("tolerance", ""), f"{where} tolerance")
    values = settings.get("values", [0, 1])
    if tolerance <= 0 or not isinstance(values, list) or len(values) != 2:
        raise UsageError(f"{where}: tolerance must be positive, values a list of two")
    if region.transform is not None or region.norm is not None:
        raise UsageError(f"{where}: fairness goes with regions point, linf, l0, ranges and patch")
    n, numbers = len(subject.values), [float(exact.number(v, where)) for v in values]

    def transform(draft: Draft, x: str) -> Sequence[str]:
        keep, at = np.eye(n), np.zeros(n)
        keep[i, i], at[i] = 0, 1
        return [draft.linear(x, keep, number * at) for number in numbers]

    judged = _difference(outputs, _which(settings, outputs, where))
    cases: Cases = [(Atom((("Y", 0, Fraction(sign)),), -tolerance, strict=True),) for sign in (1, -1)]
    return region, Wrapped(1, transform, judged), cases


def _which(settings: Mapping[str, Any], outputs: int, where: str) -> int:
    j = settings.get("output", outputs - 1 if outputs <= 2 else None)
    if not isinstance(j, int) or not 0 <= j < outputs:
        raise UsageError(f"{where}: output must be the class whose score is meant, 0 to {outputs - 1}")
    return j


def _difference(outputs: int, j: int) -> Judged:
    """The score of the second copy less that of the first: of two classes a score is the difference to the other, else the output itself."""
    weights = np.zeros((outputs, 1))
    weights[j] = 1
    if outputs == 2:
        weights[1 - j] = -1

    def judged(draft: Draft, results: Sequence[str], x: str) -> str:
        return draft.op("Sub", draft.linear(results[1], weights), draft.linear(results[0], weights))

    return judged


def custom(
    subject: Subject, region: Region, label: int | None, outputs: int, settings: Mapping[str, Any], where: str
) -> tuple[Region, Wrapped, Cases]:
    """What VNN-LIB's formula `unsafe` over Y_0, Y_1, ... says."""
    names = "".join(f"(declare-const X_{i} Real)(assert (and (<= X_{i} 0) (>= X_{i} 0)))" for i in range(1))
    declared = "".join(f"(declare-const Y_{j} Real)" for j in range(outputs))
    try:
        parsed = vnnlib.parse(f"{names}{declared}(assert {settings.get('unsafe', '')})", where)
        cases = [case.atoms for case in itertools.islice(parsed.cases, MOST_BOXES + 1)]
    except PropertyError as error:
        raise UsageError(f"{where}: unsafe: {error}") from error
    if not cases or len(cases) * len(region.boxes) > MOST_BOXES or not all(cases):
        raise UsageError(f"{where}: unsafe must be a formula over Y_0 to Y_{outputs - 1} with at most {MOST_BOXES} cases")
    if any(t[0] != "Y" for atoms in cases for atom in atoms for t in atom.terms):
        raise UsageError(f"{where}: unsafe may speak of Y alone; the region says what X may be")
    return region, Wrapped(outputs), cases


JUDGES: Mapping[str, Judge] = {
    "top1": top1, "topk": topk, "targeted": targeted, "range": in_range, "monotone": monotone, "fairness": fairness, "vnnlib": custom,
}
