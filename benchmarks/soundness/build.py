"""Build the suite: every family's instances, each checked again before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soundness.families import attributes, graphs, needles, parsing, regress, rounding, scales, theorems, trained
from benchmarks.soundness.instance import Entry, Instance, SuiteError, write
from benchmarks.soundness.recheck import recheck


@dataclass(frozen=True)
class Family:
    """`instances(seed)` makes them; `check`, where there is one, runs the proof of an instance again, from its files, and raises SuiteError."""

    name: str
    instances: Callable[[int], Iterator[Instance]]
    check: Callable[[Instance], None] | None = None


FAMILIES: tuple[Family, ...] = (
    Family("trained", trained.instances, trained.check),
    Family("needles", needles.instances, needles.check),
    Family("theorems", theorems.instances, theorems.check),
    Family("rounding", rounding.instances, rounding.check),
    Family("attributes", attributes.instances),
    Family("graphs", graphs.instances),
    Family("parsing", parsing.instances),
    Family("scales", scales.instances, scales.check),
    Family("regress", regress.instances),
)


def build(folder: Path, seed: int, families: Sequence[str] | None = None) -> list[Entry]:
    """Write the suite, or some families of it, to `folder`. Raises SuiteError, also where the truth of an instance cannot be confirmed."""
    return write(folder, instances(seed, families), seed)


def instances(seed: int, families: Sequence[str] | None = None) -> Iterator[Instance]:
    """The checked instances of some families (default: all), in the order of FAMILIES. Raises SuiteError."""
    known = [family.name for family in FAMILIES]
    unknown = sorted(set(families or ()) - set(known))
    if unknown:
        raise SuiteError(f"no family {unknown[0]!r}; there are {', '.join(known)}")
    for family in FAMILIES:
        if families is None or family.name in families:
            for instance in family.instances(seed):
                if instance.family != family.name or not instance.name.startswith(f"{family.name}_"):
                    raise SuiteError(f"{instance.name}: made by the family {family.name}")
                recheck(instance)
                if family.check is not None:
                    family.check(instance)
                yield instance
