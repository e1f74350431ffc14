"""A network and a property, bound to each other and turned into arrays: what search, attack and encodings read.

Cases that share an input box form a *group*; a group's *rows* are the distinct atoms of its cases. Everything is
rounded to the weak side: boxes outward, thresholds towards "unsafe" (ARITHMETIC 7), so that a proof about the arrays
is a proof about the text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Elementwise, Graph
from graph.functions.facts import Pieces
from graph.simplify import recentre_softmax
from specs.canonical import Atom, Box, Case, Property, Rationals
from specs.errors import PropertyError
from specs.rounding import hull_lower, hull_upper, nearest_float32

Array = NDArray[Any]

NARROW = 2.0**-12  # of the widest input: what is narrower is as good as fixed


@dataclass(frozen=True, eq=False)
class Functionals:
    """K sparse linear functionals over the concatenated flat outputs (places 0..n_out-1) and inputs (n_out...)."""

    n_out: int
    n_in: int
    start: Array = field(repr=False)  # int [K + 1]
    place: Array = field(repr=False)  # int [start[K]]
    coefficient: Array = field(repr=False)  # float64 [start[K]]

    def __len__(self) -> int:
        return int(self.start.size) - 1

    def dense(self, rows: Array) -> tuple[Array, Array]:
        """Coefficients of the chosen functionals on the outputs [k, n_out] and inputs [k, n_in], float64."""
        dense = np.zeros((len(rows), self.n_out + self.n_in))
        for k, row in enumerate(rows):
            part = slice(int(self.start[row]), int(self.start[row + 1]))
            np.add.at(dense[k], self.place[part], self.coefficient[part])
        return dense[:, : self.n_out], dense[:, self.n_out :]

    @property
    def reads_inputs(self) -> bool:
        return bool((self.place >= self.n_out).any())


@dataclass(frozen=True, eq=False)
class Problem:
    """`unsat` means: for every case, no execution with its input in box `case_box` has all its functionals <= bounds.

    boxes: float64 `lower`, `upper` [n_boxes, n_in] (outward hull; proofs), float32 `witness_lower`, `witness_upper`
    (RN32 of the decimals; witnesses). Cases: `case_box` [N], `case_rows` [N, A] (functional, -1 = none),
    `case_bounds` [N, A] (+inf where none), `case_strict` [N, A].
    """

    graph: Graph
    spec: Property
    lower: Array = field(repr=False)
    upper: Array = field(repr=False)
    witness_lower: Array = field(repr=False)
    witness_upper: Array = field(repr=False)
    functionals: Functionals = field(repr=False)
    case_box: Array = field(repr=False)
    case_rows: Array = field(repr=False)
    case_bounds: Array = field(repr=False)
    case_strict: Array = field(repr=False)

    def varying(self, boxes: Array) -> int:
        """How many inputs vary in that of these boxes in which most do. A width that is only the rounding of a decimal does not count."""
        width = self.upper[boxes] - self.lower[boxes]
        return int((width > NARROW * width.max(axis=-1, keepdims=True, initial=0.0)).sum(axis=-1).max(initial=0))


def compile_problem(graph: Graph, prop: Property) -> Problem:
    """Bind `prop` to `graph` by position: its inputs, concatenated, are the graph's inputs; its outputs likewise.

    The graph of the problem is the same function over the reals; its softmax rows are shifted for the centre of the first box.
    Raises PropertyError if the numbers of variables differ.
    """
    n_in = sum(graph.nodes[i].size for i in graph.inputs)
    n_out = sum(graph.nodes[i].size for i in graph.outputs)
    for kind, variables, size in (("input", prop.inputs, n_in), ("output", prop.outputs, n_out)):
        declared = sum(v.size for v in variables)
        if declared != size:
            raise PropertyError(f"{prop.source}: the property declares {declared} {kind} variables, the network has {size} {kind}s")
    places = _places(prop, n_out)
    boxes = _Boxes(prop, n_in)
    rows = _Rows(places)
    cases = [(boxes.index(case), [rows.index(atom) for atom in case.atoms]) for case in prop.cases]
    widest = max((len(atoms) for _, atoms in cases), default=0)
    case_rows = np.full((len(cases), widest), -1, dtype=np.int64)
    case_bounds = np.full((len(cases), widest), np.inf)
    case_strict = np.zeros((len(cases), widest), dtype=bool)
    for k, (_, atoms) in enumerate(cases):
        for a, (row, bound, strict) in enumerate(atoms):
            case_rows[k, a], case_bounds[k, a], case_strict[k, a] = row, bound, strict
    arrays = boxes.arrays()
    return Problem(
        _recentred(graph, *arrays[:2]), prop, *arrays, rows.functionals(n_out, n_in, prop.source),
        np.asarray([b for b, _ in cases], dtype=np.int64), case_rows, case_bounds, case_strict,
    )


def _recentred(graph: Graph, lower: Array, upper: Array) -> Graph:
    """`graph` with one shift for all boxes [n_boxes, n_in]: exp would overflow for logits of more than 88 in float32 (ARITHMETIC 6)."""
    if not graph.shifts or not len(lower):
        return graph
    ends = np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1]
    return recentre_softmax(graph, np.split(lower[0] / 2 + upper[0] / 2, ends))


def _places(prop: Property, n_out: int) -> dict[str, int]:
    """Where each tensor starts in the concatenation of outputs and inputs."""
    places, at = {}, 0
    for v in (*prop.outputs, *prop.inputs):
        places[v.name] = at
        at += v.size
    return places


def only_pieces(graph: Graph) -> bool:
    """Whether all univariate functions are piecewise linear: then float16 is enough for slopes."""
    return all(isinstance(node.function, Pieces) for node in graph.nodes if isinstance(node, Elementwise))


class _Boxes:
    """Distinct input boxes, in the order of the declared inputs."""

    def __init__(self, prop: Property, n_in: int) -> None:
        self._order = [v.name for v in prop.inputs]
        self._size = n_in
        self._seen: dict[bytes, int] = {}
        self._kept: list[list[Box]] = []

    def index(self, case: Case) -> int:
        by_name = {b.tensor: b for b in case.boxes}
        boxes = [by_name[name] for name in self._order]
        key = b"".join(r.index.tobytes() + id(r.table).to_bytes(8, "little") for b in boxes for r in (b.lower, b.upper))
        if key not in self._seen:
            self._seen[key] = len(self._kept)
            self._kept.append(boxes)
        return self._seen[key]

    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """lower, upper (float64 hulls), witness_lower, witness_upper (nearest float32), each [n_boxes, n_in]."""
        ends = [([b.lower for b in boxes], [b.upper for b in boxes]) for boxes in self._kept]
        lowers, uppers = [low for low, _ in ends], [high for _, high in ends]
        return (
            self._convert(lowers, hull_lower, np.float64), self._convert(uppers, hull_upper, np.float64),
            self._convert(lowers, nearest_float32, np.float32), self._convert(uppers, nearest_float32, np.float32),
        )

    def _convert(self, ends: list[list[Rationals]], rounding: Callable[[Rationals], Array], dtype: type) -> Array:
        """All boxes at once where they share a table of literals, which is what a file's boxes do."""
        flat = [r for row in ends for r in row]
        if not flat:
            return np.zeros((0, self._size), dtype=dtype)
        if all(r.table is flat[0].table for r in flat):
            values = rounding(Rationals(flat[0].table, np.concatenate([r.index for r in flat])))
        else:
            values = np.concatenate([rounding(r) for r in flat])
        return values.reshape(len(ends), self._size).astype(dtype, copy=False)


class _Rows:
    """Distinct left-hand sides of atoms."""

    def __init__(self, places: dict[str, int]) -> None:
        self._places = places
        self._seen: dict[tuple[tuple[int, Fraction], ...], int] = {}
        self._bounds: dict[Fraction, float] = {}

    def index(self, atom: Atom) -> tuple[int, float, bool]:
        """(functional, threshold rounded to the weak side, strict)."""
        key = tuple(sorted((self._places[t] + i, c) for t, i, c in atom.terms))
        row = self._seen.setdefault(key, len(self._seen))
        if atom.bound not in self._bounds:
            self._bounds[atom.bound] = float(hull_upper(Rationals((atom.bound,), np.zeros(1, dtype=np.int64)))[0])
        return row, self._bounds[atom.bound], atom.strict

    def functionals(self, n_out: int, n_in: int, source: str) -> Functionals:
        start = np.cumsum([0, *(len(key) for key in self._seen)])
        place = np.asarray([p for key in self._seen for p, _ in key], dtype=np.int64)
        try:
            coefficient = np.asarray([float(c) for key in self._seen for _, c in key], dtype=np.float64)
        except OverflowError as error:
            raise PropertyError(f"{source}: a coefficient, multiplied out, is too large for double precision") from error
        return Functionals(n_out, n_in, start, place, coefficient)
