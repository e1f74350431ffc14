"""Regions: what a sample may become. Each is a union of boxes over the numbers x that a query varies, in exact rationals.

A region may transform x to a sample (brightness, rotation), and may be cut by a norm, which then is an output of the composed network
with an unsafe atom of its own; nothing is replaced by a hull in silence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from benchmarks.certify import exact
from benchmarks.certify.compose import Draft, Transform
from benchmarks.certify.errors import InputError, UsageError

Vector = tuple[Fraction, ...]
Box = tuple[Vector, Vector]

MOST_BOXES = 20_000
LARGE = 2**127  # below it a number has a float32 beside it


@dataclass(frozen=True)
class Norm:
    """|| x - centre ||_p <= radius, p 1 or 2."""

    p: int
    centre: Vector
    radius: Fraction

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Whether the exact norm is at most the radius."""
        distances = [abs(a - b) for a, b in zip(x, self.centre, strict=True)]
        return sum(distances, Fraction(0)) <= self.radius if self.p == 1 else sum((d * d for d in distances), Fraction(0)) <= self.radius**2


@dataclass(frozen=True)
class Region:
    """The union of `boxes` over x [n], cut by `norm`; `transform` makes the sample of x, None: x is the sample."""

    boxes: tuple[Box, ...]
    norm: Norm | None = None
    transform: Transform | None = None
    names: tuple[str, ...] = ()  # of x, where x is not the sample

    @property
    def size(self) -> int:
        return len(self.boxes[0][0])

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Whether x lies in the region exactly as asked."""
        inside = any(all(a <= v <= b for a, v, b in zip(low, x, high, strict=True)) for low, high in self.boxes)
        return inside and (self.norm is None or self.norm.contains(x))

    def half(self, axis: int | None, upper: bool) -> Region:
        """One half: of the one box, cut in the middle of x[axis], or (None) of the list of boxes. The two halves are the region. The cut is at a
        float32 if there is one, whose decimal is short: the halves then meet in the files too. Raises UsageError."""
        if axis is None:
            if len(self.boxes) < 2:
                raise UsageError("a region of one box is halved along one of its numbers")
            count = len(self.boxes) // 2
            return replace(self, boxes=self.boxes[count:] if upper else self.boxes[:count])
        if len(self.boxes) != 1 or not 0 <= axis < self.size or self.boxes[0][0][axis] == self.boxes[0][1][axis]:
            raise UsageError(f"a region of {len(self.boxes)} boxes over {self.size} numbers cannot be halved along number {axis}")
        low, high = map(list, self.boxes[0])
        middle = (low[axis] + high[axis]) / 2
        if abs(middle) < LARGE:
            short = Fraction(float(np.float32(float(middle))))
            middle = short if low[axis] < short < high[axis] else middle
        (low if upper else high)[axis] = middle
        return replace(self, boxes=((tuple(low), tuple(high)),))


@dataclass(frozen=True)
class Subject:
    """One sample: exact values, shape, names of its features, and the range that values have, if one is declared."""

    values: Vector
    shape: tuple[int, ...]
    features: tuple[str, ...] = ()
    low: Fraction | None = None
    high: Fraction | None = None

    def cut(self, low: Sequence[Fraction], high: Sequence[Fraction]) -> Box:
        """The box [low, high] within the declared range."""
        lower = tuple(low) if self.low is None else tuple(max(v, self.low) for v in low)
        upper = tuple(high) if self.high is None else tuple(min(v, self.high) for v in high)
        if any(a > b for a, b in zip(lower, upper, strict=True)):
            raise InputError("a region is empty within the declared range")
        return lower, upper

    def place(self, name: object, where: str) -> int:
        """The flat element that `name` means: a column's name, or a number."""
        if isinstance(name, str) and name in self.features:
            return self.features.index(name)
        if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(self.values):
            return name
        known = ", ".join(self.features) if self.features else f"0 to {len(self.values) - 1}"
        raise UsageError(f"{where}: no feature {name!r}; known: {known}")


Make = Callable[[Subject, Fraction | None, Mapping[str, Any], str], Region]


def region(kind: str, subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """The region of a check around one sample. Raises UsageError where the check does not fit the samples."""
    made = MAKERS[kind](subject, radius, settings, where)
    if not 0 < len(made.boxes) <= MOST_BOXES:
        raise UsageError(f"{where}: {len(made.boxes)} boxes; a region has at most {MOST_BOXES}")
    return made


def _radius(radius: Fraction | None, where: str) -> Fraction:
    if radius is None:
        raise UsageError(f"{where}: a radius is missing")
    return radius


def linf(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """|x_i - sample_i| <= radius, for all elements or for `features`."""
    r = _radius(radius, where)
    varied = _varied(subject, settings, where)
    low = [v - r if i in varied else v for i, v in enumerate(subject.values)]
    high = [v + r if i in varied else v for i, v in enumerate(subject.values)]
    return Region((subject.cut(low, high),))


def _varied(subject: Subject, settings: Mapping[str, Any], where: str) -> set[int]:
    chosen = settings.get("features")
    if chosen is None:
        return set(range(len(subject.values)))
    if not isinstance(chosen, list) or not chosen:
        raise UsageError(f"{where}: features is a list of names or numbers")
    return {subject.place(name, where) for name in chosen}


def point(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """The sample itself, for properties that vary something of their own."""
    return Region((subject.cut(subject.values, subject.values),))


def norm_ball(p: int) -> Make:
    """|| x - sample ||_p <= radius over all elements or `features`: a box, cut by the norm exactly."""

    def make(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
        return replace(linf(subject, radius, settings, where), norm=Norm(p, subject.values, _radius(radius, where)))

    return make


def l0(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """Any `radius` elements (of `features`) take any value of the declared range."""
    count, varied = _whole(radius, where), sorted(_varied(subject, settings, where))
    count = min(count, len(varied))
    _at_most(math.comb(len(varied), count), where)
    return Region(tuple(_free(subject, chosen, where) for chosen in itertools.combinations(varied, count)))


def _free(subject: Subject, chosen: Sequence[int], where: str) -> Box:
    """The box in which these elements take any value of the declared range."""
    if subject.low is None or subject.high is None:
        raise UsageError(f"{where}: this region needs the range of values: [preprocess] range = [lowest, highest]")
    free = set(chosen)
    return (tuple(subject.low if i in free else v for i, v in enumerate(subject.values)),
            tuple(subject.high if i in free else v for i, v in enumerate(subject.values)))


def _whole(radius: Fraction | None, where: str) -> int:
    count = _radius(radius, where)
    if count.denominator != 1 or count < 1:
        raise UsageError(f"{where}: the radius counts something here: a whole number, 1 or more, not {exact.text(count)}")
    return int(count)


def _at_most(boxes: int, where: str) -> None:
    if boxes > MOST_BOXES:
        raise UsageError(f"{where}: {boxes} boxes for a sample; a region has at most {MOST_BOXES}")


def patch(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """A square of `radius` times `radius` pixels, anywhere, takes any values of the declared range."""
    side, (height, width, places) = _whole(radius, where), _image(subject, where)
    if side > min(height, width):
        raise UsageError(f"{where}: a square of {side} does not fit into {height} x {width} pixels")
    corners = itertools.product(range(height - side + 1), range(width - side + 1))
    return Region(tuple(_free(subject, places[i : i + side, j : j + side].ravel().tolist(), where) for i, j in corners))


def _image(subject: Subject, where: str) -> tuple[int, int, Any]:
    """Height, width, and the flat elements of every pixel [height, width, channels]. An axis of 1 or 3 is that of the channels."""
    places = np.arange(len(subject.values)).reshape(subject.shape)
    if places.ndim == 3 and places.shape[0] in (1, 3) and places.shape[2] not in (1, 3):
        places = np.moveaxis(places, 0, 2)
    if places.ndim == 2:
        places = places[:, :, None]
    if places.ndim != 3:
        raise UsageError(f"{where}: samples of shape {list(subject.shape)} are no images; give [data] shape = [height, width]")
    return places.shape[0], places.shape[1], places


def ranges(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """Each feature as `ranges` says: 2 is plus or minus 2, "10%" of its value, [0, 5] anything from 0 to 5; one of each of `groups` is 1, and the
    others 0. A radius, if there is one, multiplies the first two."""
    factor = Fraction(1) if radius is None else radius
    low, high = list(subject.values), list(subject.values)
    given, groups = settings.get("ranges", {}), settings.get("groups", [])
    if not isinstance(given, Mapping) or not isinstance(groups, list) or not (given or groups):
        raise UsageError(f"{where}: ranges is a table of features, groups a list of lists of features; give at least one")
    for name, said in given.items():
        i = subject.place(int(name) if name.isdigit() and name not in subject.features else name, where)
        low[i], high[i] = _spread(subject.values[i], said, factor, f"{where} {name}")
    rows = [[subject.place(name, where) for name in group] for group in groups]
    _at_most(math.prod(map(len, rows)), where)
    return Region(tuple(subject.cut(*_hot(low, high, rows, chosen)) for chosen in itertools.product(*rows)))


def _spread(centre: Fraction, said: Any, factor: Fraction, where: str) -> tuple[Fraction, Fraction]:
    if isinstance(said, list):
        if len(said) != 2:
            raise UsageError(f"{where}: expected [lowest, highest]")
        low, high = (exact.number(v, where) for v in said)
        if low > high:
            raise UsageError(f"{where}: {said[0]} is more than {said[1]}")
        return low, high
    share = isinstance(said, str) and said.endswith("%")
    amount = factor * (abs(centre) * exact.number(said[:-1], where) / 100 if share else exact.number(said, where))
    if amount < 0:
        raise UsageError(f"{where}: {said} is negative")
    return centre - amount, centre + amount


def _hot(low: Sequence[Fraction], high: Sequence[Fraction], rows: Sequence[Sequence[int]], chosen: Sequence[int]) -> Box:
    """The box with one 1 in each group."""
    lower, upper = list(low), list(high)
    for row, one in zip(rows, chosen, strict=True):
        for i in row:
            lower[i] = upper[i] = Fraction(int(i == one))
    return tuple(lower), tuple(upper)


def brightness(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """sample * (1 + c) + b, cut to the declared range, with |c| <= radius * `contrast` (0) and |b| <= radius * `brightness` (1)."""
    r = _radius(radius, where)
    ends = [r * exact.number(settings.get(name, usual), where) for name, usual in (("contrast", 0), ("brightness", 1))]
    if min(ends) < 0:
        raise UsageError(f"{where}: contrast and brightness must be 0 or more")
    sample = np.asarray([float(v) for v in subject.values])

    def transform(draft: Draft, x: str) -> Sequence[str]:
        matrix = np.stack([sample, np.ones_like(sample)])
        return [_within(draft, draft.linear(x, matrix, sample), subject)]

    box = tuple(-v for v in ends), tuple(ends)
    return Region((box,), transform=transform, names=("contrast", "brightness"))


def _within(draft: Draft, x: str, subject: Subject) -> str:
    """`x` cut to the declared range, if there is one."""
    return x if subject.low is None or subject.high is None else draft.clip(x, float(subject.low), float(subject.high))


def geometry(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """Turned about the middle by at most radius * `rotation` degrees and moved by at most radius * `shift` pixels either way, bilinear, outside of
    the image the lowest value. Computed by the composed network: no enclosure but its own bounds."""
    r = _radius(radius, where)
    turn, move = (r * exact.number(settings.get(name, 0), where) for name in ("rotation", "shift"))
    if min(turn, move) < 0 or turn + move == 0:
        raise UsageError(f"{where}: rotation (degrees) and shift (pixels) must be 0 or more, and not both 0")
    places = _image(subject, where)[2]
    values = np.asarray([float(v) for v in subject.values])
    fill = 0.0 if subject.low is None else float(subject.low)

    def transform(draft: Draft, x: str) -> Sequence[str]:
        return [_moved(draft, x, values[places] - fill, fill, places)]

    ends = turn, move, move
    return Region(((tuple(-v for v in ends), ends),), transform=transform, names=("degrees", "down", "right"))


def _moved(draft: Draft, x: str, image: Any, fill: float, places: Any) -> str:
    """x: degrees, rows, columns. image [height, width, channels], 0 outside. Each new pixel is sum over k, l of hat(u - k) hat(v - l) image[k, l],
    where (u, v) is the place it comes from and hat(t) = max(0, 1 - |t|)."""
    height, width, channels = image.shape
    rows, columns = (g.ravel() for g in np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij"))
    angle = draft.linear(x, np.asarray([[math.pi / 180], [0.0], [0.0]]))
    turned = draft.op("Concat", draft.op("Cos", angle), draft.op("Sin", angle), x, axis=0)  # cos, sin, degrees, rows, columns
    nothing, ones = np.zeros_like(rows), np.ones_like(rows)
    down = draft.linear(turned, np.stack([rows, -columns, nothing, ones, nothing]), np.full(rows.shape, (height - 1) / 2))
    right = draft.linear(turned, np.stack([columns, rows, nothing, nothing, ones]), np.full(rows.shape, (width - 1) / 2))
    over, along = (_hats(draft, place, size) for place, size in ((down, height), (right, width)))
    made = []
    for channel in range(channels):
        mixed = draft.op("Mul", draft.op("MatMul", over, draft.constant(image[:, :, channel])), along)
        made.append(draft.op("MatMul", mixed, draft.constant(np.ones((width, 1)))))
    pixels = made[0] if channels == 1 else draft.op("Concat", *made, axis=1)  # [height * width, channels]
    order = np.argsort(places.reshape(-1, channels).ravel(), kind="stable")
    flat = draft.reshape(pixels, (len(order),))
    if not np.array_equal(order, np.arange(len(order))):
        flat = draft.op("Gather", flat, draft.shape(order.tolist()), axis=0)
    return draft.op("Add", flat, draft.constant(fill)) if fill else flat


def _hats(draft: Draft, place: str, size: int) -> str:
    """hat(place - k) for k = 0 .. size - 1: [pixels, size]."""
    distance = draft.op("Abs", draft.op("Sub", draft.reshape(place, (-1, 1)), draft.constant(np.arange(size)[None])))
    return draft.op("Relu", draft.op("Sub", draft.constant(1.0), distance))


def words(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """At most `radius` positions of a sequence of vectors [length, size] are replaced: a vector that is `words`[i] by any of `words`[j],
    j in `synonyms`[i]. Every choice is a point of its own."""
    count = _whole(radius, where)
    vectors, synonyms = settings.get("words"), settings.get("synonyms")
    if not isinstance(vectors, list) or not isinstance(synonyms, list) or len(vectors) != len(synonyms) or len(subject.shape) != 2:
        raise UsageError(f"{where}: words is a list of vectors, synonyms as many lists of their numbers, and samples are [length, size]")
    size = subject.shape[1]
    table = [tuple(Fraction(float(np.float32(float(exact.number(v, where))))) for v in vector) for vector in vectors]
    places = [subject.values[at : at + size] for at in range(0, len(subject.values), size)]
    options = [[table[j] for j in synonyms[table.index(v)] if table[j] != v] if v in table else [] for v in places]
    return Region(tuple(_listed(_sentences(places, options, count), where)))


def _sentences(places: Sequence[Vector], options: Sequence[Sequence[Vector]], count: int) -> Iterator[Box]:
    """Every sentence with at most `count` positions replaced, once, the original first."""
    movable = [i for i, choice in enumerate(options) if choice]
    for moved in range(min(count, len(movable)) + 1):
        for chosen in itertools.combinations(movable, moved):
            for taken in itertools.product(*(options[i] for i in chosen)):
                new = {**dict(enumerate(places)), **dict(zip(chosen, taken, strict=True))}
                flat = tuple(v for i in range(len(places)) for v in new[i])
                yield flat, flat


def _listed(boxes: Iterator[Box], where: str) -> Iterator[Box]:
    for number, box in enumerate(boxes, 1):
        _at_most(number, where)
        yield box


MAKERS: Mapping[str, Make] = {
    "point": point, "linf": linf, "l1": norm_ball(1), "l2": norm_ball(2), "l0": l0, "ranges": ranges, "patch": patch, "brightness": brightness,
    "geometry": geometry, "words": words,
}


def extended(region: Region, low: Fraction, high: Fraction) -> Region:
    """The region with one more number, in [low, high], behind x."""
    return replace(region, boxes=tuple(((*a, low), (*b, high)) for a, b in region.boxes))


def norm_output(draft: Draft, x: str, norm: Norm) -> str:
    """sum |x - centre|, or of its squares: [1]."""
    difference = draft.op("Sub", x, draft.constant([float(v) for v in norm.centre]))
    parts = draft.op("Abs", difference) if norm.p == 1 else draft.op("Mul", difference, difference)
    return draft.linear(parts, np.ones((len(norm.centre), 1)))


def norm_limit(norm: Norm) -> Fraction:
    """What `norm_output` computes in float32, in any order, is at most this wherever the norm is at most the radius: x and centre are float32, so
    one rounding of each difference, one of each square and n - 1 of the sum, in n + 2 factors of 1 + 2^-24; flushed underflow makes it less, and
    gradual underflow adds less than n 2^-149."""
    exactly, n = norm.radius if norm.p == 1 else norm.radius**2, len(norm.centre)
    return exactly * (1 + Fraction(n + 16, 2**23)) + Fraction(n, 2**140)
