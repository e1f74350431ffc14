"""Writes the proof of an `unsat` as a certificate (verifier/checker/FORMAT.md), from the events of the run.

While the engine runs, what events tell is appended to files without names in a private folder; what belongs to searches that were
not chosen is left out. When every case is closed, the trees are put into preorder and written. Nothing here is trusted: the
checker reads the file and finds out.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Bilinear, Elementwise, Graph, Input
from verifier.events import Begun, Chosen, Closed, Crossed, Derive, Event, Formed, Mended, Multiplied, Places, Roots, Split, Tightened, Within
from verifier.problem import Problem, only_pieces
from verifier.version import NAME, VERSION

Array = NDArray[Any]

FORMAT = 1
SPLIT, LEAF, EMPTY, FORMS, CLIP, REFINE, ROWS, WITHIN = range(8)  # records
BY_BOUND, BY_FORMS, BY_MULTIPLIERS, OPEN, CROSSED = range(5)  # how a node without a split ended; all but the last are modes of LEAF
BACKWARD, FORWARD = 1, 2  # bits of a program
DIRECT = ("intervals", "root")  # phases that close cases where they stand
DTYPES = {
    "tree_cases": "<i4", "tree_count": "<i4", "tree_program": "|u1", "op": "|u1", "arg": "<i4", "threshold": "<f8", "slope": "<f2",
    "beta": "<f4", "gamma": "<f8", "shift": "<f8", "set_site": "<i4", "set_count": "<i4", "set_element": "<i4",
}  # fmt: skip
BLOCK = 1 << 20  # numbers written at a time


class IncompleteProof(Exception):
    """What the events told is no proof: a leaf that nothing closed, or a case in no tree. Always a defect of ours. Exit code 4."""


@dataclass(frozen=True)
class Written:
    """A certificate on disk."""

    path: str
    sha256: str
    bytes: int


class Told:
    """What parts of a proof have said of sub-problems: of which it was `said` how they ended, by a split or closed; and which are `settled`, of
    which and of all below which it was said. Both [sub-problems], growing."""

    def __init__(self) -> None:
        self.said, self.settled = np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)

    def grow(self, size: int) -> None:
        """Make room for so many."""
        self.said, self.settled = _grown(self.said, size), _grown(self.settled, size)


def _grown(column: Array, size: int) -> Array:
    """The column with zeros behind it, of so many entries or more: twice as many at least where it has to grow."""
    return column if size <= len(column) else np.pad(column, (0, max(size, 2 * len(column)) - len(column)))


@dataclass(frozen=True, eq=False)
class Located:
    """Nodes of a certificate: numbers of their sub-problems, or -1 for those that nothing can be grafted on (they belong to a tree with
    bounds of its own at the root, or are one); how they ended; the margins that were found with stored multipliers, or NaN; whether their
    tree holds `within` records."""

    ids: Array
    how: Array
    margin: Array
    within: Array


class _Table:
    """Rows of one dtype, appended to a file without a name."""

    def __init__(self, folder: str, dtype: Any) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=1 << 16)  # noqa: SIM115 (`close` closes it)
        self.dtype, self.count = np.dtype(dtype), 0

    def append(self, rows: Array) -> int:
        """Add rows; returns how many there were before."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype))
        self.count += rows.size
        return self.count - rows.size

    def columns(self, *columns: Array) -> None:
        """Add rows of a structured dtype, given as columns."""
        rows = np.empty(len(columns[0]), dtype=self.dtype)
        for name, column in zip(self.dtype.names or (), columns, strict=True):
            rows[name] = column
        self.append(rows)

    def read(self) -> Array:
        """All rows."""
        return self.part(0, self.count)

    def part(self, start: int, count: int) -> Array:
        """`count` rows from `start` on."""
        self._file.flush()
        self._file.seek(start * self.dtype.itemsize)
        found = np.frombuffer(self._file.read(count * self.dtype.itemsize), self.dtype)
        self._file.seek(0, os.SEEK_END)
        return found

    def close(self) -> None:
        self._file.close()


SPLITS = [("id", "i8"), ("low", "i8"), ("high", "i8"), ("node", "i4"), ("element", "i4"), ("threshold", "f8")]
ENDED = [("id", "i8"), ("how", "u1")]
PLANES = [("id", "i8"), ("places", "i4"), ("slope_at", "i8"), ("gamma_at", "i8"), ("beta_at", "i8"), ("beta_count", "i4")]
STORED = [*PLANES, ("margin", "f8")]
CROSSINGS = [("id", "i8"), ("node", "i4"), ("element", "i4")]


class _Search:
    """What the events of one search told. `still_open` [sub-problems]: how many cases nothing has closed yet, there or above; it grows."""

    def __init__(self, folder: str, slope: str) -> None:
        self.still_open = np.zeros(0, np.int32)
        self.roots: list[Roots] = []
        self.given_up: set[int] = set()  # cases
        self.tightened: list[tuple[Tightened, int, int]] = []  # without its slopes; the number of its places; where its slopes are
        self.splits, self.ended, self.crossings = (_Table(folder, d) for d in (SPLITS, ENDED, CROSSINGS))
        self.stored, self.within = _Table(folder, STORED), _Table(folder, PLANES)
        self.formed, self.clipped, self.gammas, self.betas, self.slopes = (_Table(folder, d) for d in ("i8", "i8", "f8", "f4", slope))

    def begin(self, ids: Array, still_open: Array) -> None:
        """Sub-problems that are new, with so many open cases each."""
        self.make_room(ids)
        self.still_open[ids] = still_open

    def end(self, ids: Array, cases: Array | int) -> None:
        """So many cases of these sub-problems are closed now."""
        self.make_room(ids)
        self.still_open[ids] -= cases

    def make_room(self, ids: Array) -> None:
        """For the open cases of these sub-problems: none, where nothing has told of them."""
        self.still_open = _grown(self.still_open, 1 + int(ids.max(initial=-1)))

    def close(self) -> None:
        tables = (self.splits, self.ended, self.stored, self.within, self.crossings, self.formed, self.clipped)
        for table in (*tables, self.gammas, self.betas, self.slopes):
            table.close()


class Recorder:
    """An observer of the engine that can write what it has seen as a certificate. `folder` is private; OSError where it is full."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._problem: Problem | None = None
        self._direct: list[tuple[Array, Roots]] = []  # cases of one box, closed where they stand
        self._searches: dict[str, _Search] = {}
        self._chosen: str | None = None
        self._kept: list[_Search] = []  # what was chosen, and was told before the proof was mended
        self._grafts: dict[int, Array] = {}  # which of them goes on at which sub-problems
        self._written: tuple[int, _Trees] | None = None
        self._roots: dict[str, Roots] = {}  # of the phases in DIRECT
        self._places: list[Places] = []
        self._number_of: dict[bytes, int] = {}
        self._seen: dict[int, int] = {}  # id of an object in self._told -> number
        self._told: list[Places] = []
        self._names: _Names | None = None
        self._parts = Told()

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        match event:
            case Begun():
                self._problem = event.problem
            case Chosen():
                self._chosen = event.search
                for name in [name for name in self._searches if name != event.search]:
                    self._searches.pop(name).close()
            case Mended():
                self._mend(event)
            case Roots(search=name) if name in DIRECT:
                self._roots[name] = event
            case Closed(search=name) if name in DIRECT:
                self._close_directly(event)
            case Roots() | Split() | Formed() | Derive() | Closed() | Tightened() | Multiplied() | Within() | Crossed():
                if self._chosen in (None, event.search):
                    self._note(self._search(event.search), event)

    def _search(self, name: str) -> _Search:
        if name not in self._searches:
            self._searches[name] = _Search(self._folder, "f2" if only_pieces(self._known().graph) else "f4")
        return self._searches[name]

    def _known(self) -> Problem:
        if self._problem is None:
            raise IncompleteProof("no event has told the problem")
        return self._problem

    def _mend(self, event: Mended) -> None:
        chosen = self._searches.pop(self._chosen or "", None)
        for search in self._searches.values():
            search.close()
        self._kept += [] if chosen is None else [chosen]
        self._searches, self._chosen = {}, None
        for search in self._kept:
            search.given_up.update(event.cases.tolist())
        self._direct = [(rest, roots) for cases, roots in self._direct if len(rest := np.setdiff1d(cases, event.cases))]
        if len(event.leaves):
            self._grafts[len(self._kept)] = event.leaves

    def _close_directly(self, event: Closed) -> None:
        """Group the cases by box: intervals come case by case."""
        roots = self._roots[event.search]
        rows = np.searchsorted(roots.ids, event.ids)
        cases = roots.cases[rows][event.slots]
        box = self._known().case_box[cases]
        order = np.argsort(box, kind="stable")
        parts = np.split(cases[order], np.flatnonzero(np.diff(box[order])) + 1)
        self._direct += [(part, roots) for part in parts if len(part)]

    def _note(self, search: _Search, event: Event) -> None:
        match event:
            case Roots():
                search.roots.append(event)
                search.begin(event.ids, (event.cases >= 0).sum(1))
            case Split():
                search.make_room(event.ids)
                for ids in (event.low, event.high):
                    search.begin(ids, search.still_open[event.ids])
                search.splits.columns(event.ids, event.low, event.high, event.node, event.element, event.threshold)
            case Formed():
                search.formed.append(event.ids)
            case Derive():
                search.clipped.append(event.ids)
            case Closed():
                search.end(event.ids, event.slots.sum(1, dtype=np.int32))
                search.ended.columns(event.ids, np.full(len(event.ids), BY_FORMS if event.how == "clip" else BY_BOUND))
            case Tightened():
                at = search.slopes.append(event.slopes)
                search.tightened.append((replace(event, slopes=event.slopes[:0]), self._number(event.places), at))
            case Multiplied():
                search.stored.columns(*self._plane(search, event), event.margin)
                search.end(event.ids, 1)
                search.ended.columns(event.ids, np.full(len(event.ids), BY_MULTIPLIERS))
            case Within():
                search.within.columns(*self._plane(search, event))
            case Crossed():
                search.crossings.columns(event.ids, event.node, event.element)
                search.end(event.ids, 1)
                search.ended.columns(event.ids, np.full(len(event.ids), CROSSED))

    def _plane(self, search: _Search, event: Multiplied | Within) -> tuple[Array, ...]:
        """The columns of PLANES: the slopes, gammas and betas of these rows are kept in tables of their own."""
        gamma = event.gamma if isinstance(event, Multiplied) else np.eye(self._known().case_rows.shape[1])[event.atom]
        count = len(event.ids)
        slope_at = search.slopes.append(event.slopes) + event.slopes.shape[1] * np.arange(count)
        gamma_at = search.gammas.append(gamma) + gamma.shape[1] * np.arange(count)
        beta_at = search.betas.append(event.betas) + np.cumsum(event.beta_count) - event.beta_count
        return event.ids, np.full(count, self._number(event.places)), slope_at, gamma_at, beta_at, event.beta_count

    def _number(self, places: Places) -> int:
        """Places of equal content have one number."""
        if id(places) not in self._seen:
            key = b"|".join(b"%d %d " % (node, side) + elements.tobytes() for node, side, elements in places.groups)
            self._told.append(places)  # kept, so that its id stays its own
            self._seen[id(places)] = self._number_of.setdefault(key, len(self._number_of))
            if len(self._places) < len(self._number_of):
                self._places.append(places)
        return self._seen[id(places)]

    def write(self, path: str, model: str, prop: str, semantics: str) -> Written:
        """Write the proof of the files with these hashes to `path`. Raises IncompleteProof, OSError."""
        problem = self._known()
        columns = self._columns()
        for cases, roots in self._direct:
            columns.add_tree(cases, roots)
            columns.add(op=[LEAF], arg=[BY_BOUND])
        chosen = self._searches.get(self._chosen or "")
        trees = _Trees(problem, [*self._kept, *([] if chosen is None else [chosen])], self._grafts, self._places)
        trees.add_to(columns)
        self._written = (len(self._direct), trees)
        if not np.array_equal(np.sort(columns.cases()), np.arange(len(problem.case_box))):
            raise IncompleteProof(f"the trees hold {len(columns.cases())} cases, not each of {len(problem.case_box)} exactly once")
        return columns.write(path, self._places, {"model": model, "property": prop, "semantics": semantics})

    @property
    def decided(self) -> int:
        """How many sub-problems of the chosen search were split or closed; 0 as long as searches race."""
        search = self._searches.get(self._chosen or "")
        return 0 if search is None else search.splits.count + search.ended.count

    def write_part(self, path: str, model: str, prop: str, semantics: str, *, most: int, least: int) -> int:
        """Write to `path` what is proven so far and was in no part before, `most` sub-problems of it or fewer, and return how many. Of anything
        else the part claims nothing. 0, and nothing is written, where there are fewer than `least`, and as long as searches race: whoever follows
        goes on in a tree where he came to, so that all parts have to be of one tree. To be called between batches."""
        search, told = self._searches.get(self._chosen or ""), self._parts
        if search is None or self._kept or self.decided < told.said.sum() + least:
            return 0
        begun = [cases for cases, _ in self._direct] + [roots.cases[roots.cases >= 0] for roots in search.roots]
        if sum(map(len, begun)) < len(self._known().case_box):  # not all trees have a root yet
            return 0
        columns = self._columns()
        for cases, roots in self._direct:
            columns.add_tree(cases, roots)
            columns.add(op=[LEAF], arg=[OPEN])
        count = _Trees(self._known(), [search], {}, self._places).add_part_to(columns, told, most)
        if count:
            columns.write(path, self._places, {"model": model, "property": prop, "semantics": semantics}, compressed=False)
        return count

    def _columns(self) -> _Columns:
        """Those of a certificate: tensors have the same numbers in all that are written, so that parts of a proof can be compared with it."""
        if self._names is None:
            self._names = _Names(self._known().graph)
        return _Columns(self._known(), self._names)

    def conjecture(self) -> Recorder:
        """Another one, of a proof that there may be: default linear bounds over the whole boxes refute every case."""
        problem = self._known()
        cases = np.arange(len(problem.case_box))
        other = Recorder(self._folder)
        for event in (Begun(problem), Roots(DIRECT[0], cases, cases[:, None]), Closed(DIRECT[0], cases, np.ones((len(cases), 1), bool), "bound")):
            other(event)
        return other

    @property
    def problem(self) -> Problem:
        """What the proof is about."""
        return self._known()

    def locate(self, nodes: Array) -> Located:
        """These nodes of the certificate that was written last, numbered as the checker numbers them."""
        if self._written is None:
            raise IncompleteProof("no proof was written")
        first, trees = self._written
        return trees.locate(nodes - first)

    def close(self) -> None:
        """Give back the files."""
        for search in (*self._searches.values(), *self._kept):
            search.close()
        self._searches, self._kept = {}, []


class _Names:
    """The table of tensors: what records refer to by number."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._reader: dict[int, int] = {}  # node -> the first non-linear node that reads it
        for i, node in graph:
            if isinstance(node, Elementwise | Bilinear):
                for j in node.inputs:
                    self._reader.setdefault(j, i)
        self.entries: list[dict[str, str | int]] = []
        self._seen: dict[tuple[tuple[str, str | int], ...], int] = {}

    def tensor(self, j: int) -> int:
        """The number of node j, a graph input or what a non-linear node reads."""
        node = self._graph.nodes[j]
        if isinstance(node, Input):
            return self._add({"input": node.name})
        if j not in self._reader:
            raise IncompleteProof(f"node {j} is bounded, and no non-linear node reads it")
        return self.site(self._reader[j], self._graph.nodes[self._reader[j]].inputs.index(j))

    def site(self, i: int, argument: int = 0) -> int:
        """The number of an operand of the non-linear node i."""
        site = self._graph.nodes[i].origin.site
        if site is None:
            raise IncompleteProof(f"node {i} has no site")
        return self._add({"tensor": site[0], "site": site[1], "argument": argument})

    def _add(self, entry: dict[str, str | int]) -> int:
        number = self._seen.setdefault(tuple(entry.items()), len(self.entries))
        if number == len(self.entries):
            self.entries.append(entry)
        return number


class _Columns:
    """The columns of a certificate, growing by trees. Slopes, betas and gammas stay in their tables until they are written."""

    def __init__(self, problem: Problem, names: _Names) -> None:
        self.problem, self.names = problem, names
        self.parts: dict[str, list[Array]] = {name: [] for name in DTYPES}
        self.slopes: list[tuple[_Table, Array, Array]] = []  # table, starts, counts
        self.betas: list[tuple[_Table, Array, Array]] = []
        self.gammas: list[tuple[_Table, Array, Array]] = []

    def add(self, **parts: Any) -> None:
        """Append to columns."""
        for name, part in parts.items():
            self.parts[name].append(np.asarray(part))

    def cases(self) -> Array:
        """All cases of all trees."""
        return np.concatenate([np.zeros(0, np.int64), *self.parts["tree_cases"]])

    def add_tree(self, cases: Array, roots: Roots) -> None:
        """Begin a tree for these cases."""
        self.add(tree_cases=cases, tree_count=[len(cases)], tree_program=[self._program(roots)])

    def _program(self, roots: Roots) -> int:
        return BACKWARD * roots.refine + FORWARD * roots.forward

    def write(self, path: str, places: list[Places], facts: dict[str, str], compressed: bool = True) -> Written:
        """Write everything, the manifest first."""
        self._add_sets(places)
        centres = self.problem.graph.centres
        rows = [self.problem.graph.nodes[i].shape[0] for i in self.problem.graph.shifts]
        self.add(shift=np.concatenate([np.zeros(0), *(centres or [np.zeros(n) for n in rows])]))
        counts = {name: sum(part.size for part in parts) for name, parts in self.parts.items()}
        dtypes = dict(DTYPES)
        for name, pieces in (("slope", self.slopes), ("beta", self.betas), ("gamma", self.gammas)):
            counts[name] = sum(int(count.sum()) for _, _, count in pieces)
            dtypes[name] = next((table.dtype.str for table, _, _ in pieces), DTYPES[name])
        arrays = {name: {"dtype": dtypes[name], "shape": [counts[name]]} for name in DTYPES}
        tool = {"name": NAME, "version": VERSION}
        manifest = {"format": FORMAT, **facts, "tensors": self.names.entries, "arrays": arrays, "tool": tool}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=False, compresslevel=4 if compressed else 0) as archive:
            archive.writestr(_member("manifest.json"), json.dumps(manifest))
            for name in DTYPES:
                with archive.open(_member(name), "w") as member:
                    for block in self._blocks(name):
                        member.write(np.ascontiguousarray(block, dtype=dtypes[name]).tobytes())
        return Written(path, *_digest(path))

    def _add_sets(self, places: list[Places]) -> None:
        for one in places:
            self.add(set_count=[len(one.groups)])
            for node, side, elements in one.groups:
                self.add(set_site=[self.names.site(node), side, len(elements)], set_element=elements)

    def _blocks(self, name: str) -> Iterator[Array]:
        """The numbers of a column, piece by piece."""
        yield from self.parts[name]
        for table, starts, counts in {"slope": self.slopes, "beta": self.betas, "gamma": self.gammas}.get(name, []):
            for start, count in zip(*_joined(starts, counts), strict=True):
                for at in range(start, start + count, BLOCK):
                    yield table.part(at, min(BLOCK, start + count - at))


def _joined(starts: Array, counts: Array) -> tuple[list[int], list[int]]:
    """The same ranges in the same order, neighbours joined."""
    starts, counts = starts[counts > 0], counts[counts > 0]
    first = np.flatnonzero(np.concatenate([[True], starts[1:] != starts[:-1] + counts[:-1]])) if len(starts) else np.zeros(0, np.int64)
    return starts[first].tolist(), np.add.reduceat(counts, first).tolist() if len(first) else []


def _member(name: str) -> zipfile.ZipInfo:
    """A member of the zip without the time of day, so that equal proofs are equal files."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _digest(path: str) -> tuple[str, int]:
    """SHA-256 and size of a file, which is on the disk when this returns."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size


class _Trees:
    """The trees of searches, numbered through: one entry per sub-problem in every array."""

    def __init__(self, problem: Problem, searches: list[_Search], grafts: dict[int, Array], places: list[Places]) -> None:
        self.problem, self.searches, self.grafts = problem, searches, grafts
        self.set_size = np.asarray([len(one) for one in places], dtype=np.int64)
        splits = [search.splits.read() for search in searches]
        self.first = np.cumsum([0, *(_size(search, mine) for search, mine in zip(searches, splits, strict=True))])
        size = int(self.first[-1])
        self.splits = self._joined(splits, SPLITS, ("id", "low", "high"))
        self.crossings = self._joined([search.crossings.read() for search in searches], CROSSINGS, ("id",))
        ended = self._joined([search.ended.read() for search in searches], ENDED, ("id",))
        self.stored = self._joined([search.stored.read() for search in searches], STORED, ("id",))
        within = self._joined([search.within.read() for search in searches], PLANES, ("id",))
        self.within = within[np.argsort(within["id"], kind="stable")]  # of one sub-problem in the order in which they were told
        self.within_count = np.bincount(self.within["id"], minlength=size)
        self.within_at = np.cumsum(self.within_count) - self.within_count
        self.split, self.stored_at, self.crossed_at = np.full(size, -1), np.full(size, -1), np.full(size, -1)
        self.low, self.high, self.how = np.full(size, -1), np.full(size, -1), np.full(size, OPEN)
        self.split[self.splits["id"]] = np.arange(len(self.splits))
        self.low[self.splits["id"]], self.high[self.splits["id"]] = self.splits["low"], self.splits["high"]
        self.how[ended["id"]] = ended["how"]  # what came last: a box that was cut and then bounded was closed by bounds
        self.stored_at[self.stored["id"]] = np.arange(len(self.stored))
        self.crossed_at[self.crossings["id"]] = np.arange(len(self.crossings))
        self.formed, self.clipped = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        for search, first in zip(searches, self.first[:-1], strict=True):
            self.formed[first + search.formed.read()] = True
            self.clipped[first + search.clipped.read()] = True
        for k, leaves in grafts.items():  # a leaf becomes what the root is that goes on in its place; how its own box was cut, stays
            for column in (self.split, self.low, self.high, self.how, self.formed, self.stored_at, self.crossed_at):
                column[leaves] = column[self.first[k] + np.arange(len(leaves))]
        self.cut = np.zeros(size, dtype=bool)  # of which nothing is said
        self.order: list[Array] = []  # the nodes of all trees, as they were written
        self.graftable: list[bool] = []  # per part of `order`

    def _joined(self, parts: list[Array], dtype: Any, numbers: tuple[str, ...]) -> Array:
        """Rows of all searches, their sub-problems numbered through."""
        rows = np.concatenate([np.zeros(0, dtype), *parts])
        for name in numbers:
            rows[name] += np.repeat(self.first[:-1], [len(part) for part in parts])
        return rows

    def locate(self, nodes: Array) -> Located:
        """These nodes, numbered in the order in which they were written; negative ones are not of these trees."""
        order = np.concatenate([np.zeros(0, np.int64), *self.order])
        sizes = [len(part) for part in self.order]
        graftable = np.repeat(np.array(self.graftable, dtype=bool), sizes)
        narrowed = np.repeat(np.array([bool(self.within_count[part].any()) for part in self.order], dtype=bool), sizes)
        mine = nodes >= 0
        ids, how, margin = np.full(len(nodes), -1), np.full(len(nodes), BY_BOUND), np.full(len(nodes), np.nan)
        at = order[nodes[mine]]
        ids[mine] = np.where(graftable[nodes[mine]], at, -1)
        how[mine] = self.how[at]
        stored = how == BY_MULTIPLIERS
        margin[stored] = self.stored["margin"][self.stored_at[order[nodes[stored]]]]
        within = np.zeros(len(nodes), dtype=bool)
        within[mine] = narrowed[nodes[mine]]
        return Located(ids, how, margin, within)

    def add_part_to(self, columns: _Columns, told: Told, most: int) -> int:
        """Add all trees, cut off where all is settled, with `most` sub-problems that are new; returns of how many that are they tell."""
        ((search, size),) = zip(self.searches, self.first[1:].tolist(), strict=True)
        told.grow(size)
        self.how = np.where(search.still_open[:size] > 0, OPEN, self.how)
        self.cut = told.settled[:size].copy()
        is_new = ~told.said[:size] & ~self.cut & ((self.split >= 0) | (self.how != OPEN))
        low, high = (np.where(self.cut, -1, side).tolist() for side in (self.low, self.high))
        order = np.concatenate([np.zeros(0, np.int64), *(_preorder(int(root), low, high) for roots in search.roots for root in roots.ids)])
        here = np.sort(order[is_new[order]])[:most]  # as the search came to them: many of one depth, which the checker takes together
        told.said[here] = True
        self.cut |= ~told.said[:size]
        self.add_to(columns, whole=False)
        for node in order[told.said[order]][::-1].tolist():
            told.settled[node] |= told.settled[low[node]] and told.settled[high[node]] if low[node] >= 0 else True
        return len(here)

    def add_to(self, columns: _Columns, whole: bool = True) -> None:
        """Add all trees: those with bounds of their own at the root one by one, the others at once. Raises IncompleteProof where the `whole` is
        asked for and nothing closed a leaf."""
        low, high = (np.where(self.cut, -1, side).tolist() for side in (self.low, self.high))
        for k, search in enumerate(self.searches):
            for roots in search.roots if k not in self.grafts else ():
                lasting = (roots.cases >= 0) & ~np.isin(roots.cases, list(search.given_up))
                used = np.flatnonzero(lasting.any(1))
                orders = [_preorder(int(self.first[k] + root), low, high) for root in roots.ids[used]]
                self.order += orders
                self.graftable += [not roots.inherit] * len(orders)
                for n in used:
                    columns.add_tree(roots.cases[n][lasting[n]], roots)
                if roots.inherit:
                    for n, order in zip(used, orders, strict=True):
                        self._add_inherited(columns, search, int(roots.ids[n]), roots.forward)
                        self._add_nodes(columns, order, search, np.full(len(order), roots.cases[n][0]), whole)
                elif orders:
                    self._add_nodes(columns, np.concatenate(orders), search, np.repeat(roots.cases[used, 0], list(map(len, orders))), whole)

    def _add_inherited(self, columns: _Columns, search: _Search, root: int, forward: bool) -> None:
        """What holds below the root, if anything is said of that: default backward bounds, unless forward ones were made because these cost too
        much; and then those with slopes of their own."""
        if self.cut[self.first[self.searches.index(search)] + root]:
            return
        columns.add(op=[] if forward else [REFINE])
        for event, which, at in search.tightened:
            if root in event.ids:
                columns.add(op=[ROWS], arg=[columns.names.tensor(event.node), which, len(event.codes)])
                columns.add(arg=event.codes)
                columns.slopes.append((search.slopes, np.array([at]), np.array([len(event.codes) * int(self.set_size[which])])))

    def _add_nodes(self, columns: _Columns, order: Array, search: _Search, case: Array, whole: bool) -> None:
        """The records of the sub-problems `order`, in preorder; `case` is the only one of their trees, where they have multipliers."""
        cut = self.cut[order]
        is_split = (self.split[order] >= 0) & ~cut
        how = np.where(is_split | cut, OPEN, self.how[order])
        if whole and (how[~is_split] == OPEN).any():
            raise IncompleteProof(f"nothing closed {int((how[~is_split] == OPEN).sum())} leaves")
        formed, clipped, within = self.formed[order] & is_split, self.clipped[order] & ~cut, np.where(cut, 0, self.within_count[order])
        end = np.cumsum(1 + formed.astype(np.int64) + clipped + within)
        op = np.full(int(end[-1]), WITHIN, dtype=np.uint8)
        op[end - 1] = np.where(is_split, SPLIT, np.where(how == CROSSED, EMPTY, LEAF))
        op[end[formed] - 2] = FORMS
        op[(end - 2 - formed)[clipped]] = CLIP
        columns.add(op=op, threshold=self.splits["threshold"][self.split[order[is_split]]])
        planes, at = self._planes(order, how, within)
        self._add_arguments(columns, order, is_split, how, planes["places"], at)
        if len(planes):
            columns.slopes.append((search.slopes, planes["slope_at"], self.set_size[planes["places"]]))
            columns.betas.append((search.betas, planes["beta_at"], planes["beta_count"].astype(np.int64)))
            columns.gammas.append((search.gammas, planes["gamma_at"], (self.problem.case_rows[case[at]] >= 0).sum(1)))

    def _planes(self, order: Array, how: Array, within: Array) -> tuple[Array, Array]:
        """The rows with multipliers of the sub-problems `order`, in the order of their records, and where in `order` their owners stand."""
        owner = np.repeat(np.arange(len(order)), within)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(within) - within, within)
        above, leaf = self.within[self.within_at[order[owner]] + number], np.flatnonzero(how == BY_MULTIPLIERS)
        at = np.concatenate([owner, leaf])
        records = np.argsort(at, kind="stable")  # what is in force at a leaf comes before it
        ending = self.stored[self.stored_at[order[leaf]]][[name for name, _ in PLANES]].astype(PLANES)
        return np.concatenate([above, ending])[records], at[records]

    def _add_arguments(self, columns: _Columns, order: Array, is_split: Array, how: Array, sets: Array, at: Array) -> None:
        """A slope set for every row with multipliers, before it the mode of a leaf; a tensor and an element of a split or a contradiction."""
        splits, crossed = self.splits[self.split[order[is_split]]], self.crossings[self.crossed_at[order[how == CROSSED]]]
        leaves = np.flatnonzero(~is_split & (how != CROSSED))
        pairs = ((np.flatnonzero(is_split), splits), (np.flatnonzero(how == CROSSED), crossed))
        places, args = [at, leaves], [sets, how[leaves]]
        ranks = [np.where((np.append(at[1:], -1) != at) & (how[at] == BY_MULTIPLIERS), 2, 0), np.ones(len(leaves), np.int64)]
        for nodes, rows in pairs:
            places += [nodes, nodes]
            args += [_numbers(columns.names, rows["node"]), rows["element"]]
            ranks += [np.full(len(nodes), 1), np.full(len(nodes), 2)]
        columns.add(arg=np.concatenate(args)[np.lexsort([np.concatenate(ranks), np.concatenate(places)])])


def _size(search: _Search, splits: Array) -> int:
    """How many sub-problems a search has numbered."""
    return 1 + int(max([*(int(roots.ids.max(initial=-1)) for roots in search.roots), splits["high"].max(initial=-1)]))


def _numbers(names: _Names, nodes: Array) -> Array:
    """The numbers of these nodes in the table of tensors."""
    used, inverse = np.unique(nodes, return_inverse=True)
    return np.asarray([names.tensor(int(node)) for node in used], dtype=np.int64)[inverse]


def _preorder(root: int, low: list[int], high: list[int]) -> Array:
    """The sub-problems of a tree, every one before its halves, the lower half first."""
    found, stack = [], [root]
    while stack:
        i = stack.pop()
        found.append(i)
        if low[i] >= 0:
            stack += (high[i], low[i])
    return np.asarray(found, dtype=np.int64)
