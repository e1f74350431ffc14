"""Properties: what must hold in a region, as the cases in which it does not. Numbers are exact; a tie is unsafe (VNN-COMP's convention)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from benchmarks.certify import exact
from benchmarks.certify.compose import Judged, Transform
from benchmarks.certify.errors import InputError
from benchmarks.certify.policy import Check
from benchmarks.certify.regions import Region, Subject
from specs.canonical import Atom

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


JUDGES: Mapping[str, Judge] = {"top1": top1}
