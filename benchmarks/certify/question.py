"""One query of a campaign: a pure function of model, data and policy to the two files that a certificate binds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.certify import compose, exact, properties, regions
from benchmarks.certify.compose import Draft, Network, Recipe
from benchmarks.certify.data import Samples
from benchmarks.certify.policy import Check, Policy
from benchmarks.certify.properties import Wrapped
from benchmarks.certify.regions import Norm, Region, Subject
from specs.canonical import Atom, Box, Case, Property, Rationals, Variable
from specs.write import write

Array = NDArray[Any]


@dataclass(frozen=True)
class Key:
    """Which query: check, radius (None where the region has none), sample; and which part of it, as halves of halves (`Region.half`)."""

    check: str
    radius: Fraction | None
    sample: int
    part: tuple[tuple[int | None, bool], ...] = ()

    @cached_property
    def folder(self) -> str:
        """Where its files lie in the evidence, from `queries/`: CHECK/RADIUS/000012, its parts 000012_3l (the lower half of x[3]), 000012_3h,
        000012_3l_7h; _l and _h where a list of boxes is halved."""
        radius = "" if self.radius is None else f"/{exact.text(self.radius).replace('/', '_over_')}"
        part = "".join(f"_{'' if axis is None else axis}{'h' if upper else 'l'}" for axis, upper in self.part)
        return f"{self.check}{radius}/{self.sample:06d}{part}"

    def halves(self, axis: int | None) -> tuple[Key, Key]:
        """The two parts of this query along x[axis], or (None) of its list of boxes."""
        return replace(self, part=(*self.part, (axis, False))), replace(self, part=(*self.part, (axis, True)))

    @staticmethod
    def parsed(folder: str) -> Key:
        """The inverse of `folder`. Raises ValueError or UsageError."""
        check, *radius, last = folder.split("/")
        sample, *steps = last.split("_")
        if len(radius) > 1 or not all(re.fullmatch(r"[0-9]*[lh]", step, re.ASCII) for step in steps):
            raise ValueError("not the name of a query")
        part = tuple((int(step[:-1]) if step[:-1] else None, step[-1] == "h") for step in steps)
        key = Key(check, exact.number(radius[0].replace("_over_", "/"), folder) if radius else None, int(sample), part)
        if key.folder != folder:
            raise ValueError("not the name of a query")
        return key


@dataclass(frozen=True, eq=False)
class Question:
    """The files of a query, and the region as it was asked for."""

    model: bytes = field(repr=False)
    text: str = field(repr=False)
    region: Region = field(repr=False)

    @property
    def model_sha256(self) -> str:
        return hashlib.sha256(self.model).hexdigest()

    @property
    def property_sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Subjects:
    """What is asked about: the network, the samples and the policy, all read."""

    network: Network
    samples: Samples
    policy: Policy

    def subject(self, sample: int) -> Subject:
        """A sample in exact numbers."""
        prepared = self.policy.preprocess
        values = tuple(Fraction(float(v)) for v in self.samples.values[sample].ravel())
        return Subject(values, self.samples.shape, self.samples.features, prepared.low, prepared.high)

    def check(self, name: str) -> Check:
        """The check of this name."""
        return next(c for c in self.policy.checks if c.name == name)

    def label(self, sample: int) -> int | None:
        return None if self.samples.labels is None else int(self.samples.labels[sample])

    def clean(self) -> bytes:
        """The network behind the preprocessing, from a sample to the outputs."""
        return _file(self, Recipe(int(np.prod(self.samples.shape)), self.network.outputs))

    def question(self, key: Key) -> Question:
        """The query `key`. Raises UsageError or InputError where the check does not fit the samples or the network, or there is no such part."""
        check, where = self.check(key.check), f"check {key.check}"
        subject = self.subject(key.sample)
        region = regions.region(check.region, subject, key.radius, check.settings, where)
        region, judged, cases = properties.judge(check, subject, region, self.label(key.sample), self.network.outputs, where)
        for axis, upper in key.part:
            region = region.half(axis, upper)
        if region.norm is not None:
            judged, cases = _with_norm(region.norm, judged, cases)
        recipe = Recipe(region.size, judged.outputs, judged.transform or region.transform, judged.judged)
        shared = recipe.transform is None and recipe.judged is None  # the same file for all samples
        model = _shared(self, recipe.inputs, recipe.outputs) if shared else _file(self, recipe)
        return Question(model, write(_property(region, judged.outputs, cases)), region)


@lru_cache(maxsize=4)
def _shared(subjects: Subjects, inputs: int, outputs: int) -> bytes:
    return _file(subjects, Recipe(inputs, outputs))


def _file(subjects: Subjects, recipe: Recipe) -> bytes:
    return compose.composed(subjects.network, subjects.samples.shape, subjects.policy.preprocess, recipe)


def _with_norm(norm: Norm, judged: Wrapped, cases: Sequence[Sequence[Atom]]) -> tuple[Wrapped, list[tuple[Atom, ...]]]:
    """One output more, the norm, and in each case the atom that it is small: a proof may weigh it, and nothing outside of the ball is asked about.
    Its limit is a little larger than the ball, as much as float32 may add to the norm."""
    at = judged.outputs

    def with_norm(draft: Draft, results: Sequence[str], x: str) -> str:
        y = results[0] if judged.judged is None else judged.judged(draft, results, x)
        return draft.op("Concat", y, regions.norm_output(draft, x, norm), axis=0)

    small = Atom((("Y", at, Fraction(1)),), exact.outward(regions.norm_limit(norm), True))
    return Wrapped(at + 1, judged.transform, with_norm), [(*atoms, small) for atoms in cases]


def _property(region: Region, outputs: int, cases: Sequence[Sequence[Atom]]) -> Property:
    """Unsafe: x in a box of the region, its bounds rounded outwards, and all atoms of a case."""
    boxes = [Box("X", _rounded(low, False), _rounded(high, True)) for low, high in region.boxes]
    listed = tuple(Case((box,), tuple(atoms)) for box in boxes for atoms in cases)
    return Property((Variable("X", (region.size,)),), (Variable("Y", (outputs,)),), listed)


def _rounded(values: Iterable[Fraction], up: bool) -> Rationals:
    return Rationals.of(exact.outward(v, up) for v in values)
