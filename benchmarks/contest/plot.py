"""Cactus and scatter plots of tables, with matplotlib (the extra `report`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contest.compare import SHORTEST
from benchmarks.contest.results import DECIDED, InstanceKey, Said, ToolTable
from benchmarks.contest.scoring import in_time
from benchmarks.instances import DataError

COLOURS = {"sat": "tab:red", "unsat": "tab:blue"}
STYLES = ("-", "--", "-.", ":")
UNDECIDED = 1.3  # where what was not decided is drawn, times the longest time


def cactus(tables: Sequence[ToolTable], out: Path, category: str | None = None) -> None:
    """How many instances each tool decided in how many seconds each; the best tool first. Raises DataError, OSError."""
    figure, axes = _axes("instances decided", "seconds an instance, at most")
    curves = [(t.tool, sorted(max(s.seconds, SHORTEST) for s in _chosen(t, category).values() if s.result in DECIDED)) for t in tables]
    curves = [curve for curve in curves if curve[1]]
    if not curves:
        raise DataError(f"nothing to draw: no table has a decided instance{f' of {category}' if category else ''}")
    for at, (tool, times) in enumerate(sorted(curves, key=lambda curve: -len(curve[1]))):
        axes.plot(range(1, len(times) + 1), times, STYLES[at % len(STYLES)], label=f"{tool} ({len(times)})", drawstyle="steps-post", linewidth=1.5)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    figure.legend(loc="outside right upper", frameon=False)
    axes.set_title(category or "all benchmarks")
    _save(figure, out)


def scatter(first: ToolTable, second: ToolTable, out: Path, category: str | None = None) -> None:
    """A point for each instance that one of two tools decided; what one did not decide lies on the dotted line. Raises DataError, OSError."""
    mine, theirs = _chosen(first, category), _chosen(second, category)
    points = [(mine[k], theirs[k]) for k in mine if k in theirs and (mine[k].result in DECIDED or theirs[k].result in DECIDED)]
    if not points:
        raise DataError("nothing to draw: the two tables have no instance in common that one of them decided")
    figure, axes = _axes(f"{first.tool}: seconds", f"{second.tool}: seconds")
    edge = UNDECIDED * max(s.seconds for pair in points for s in pair if s.result in DECIDED)
    for word, colour in COLOURS.items():
        chosen = [pair for pair in points if word in (pair[0].result, pair[1].result)]
        xs, ys = ([max(pair[at].seconds, SHORTEST) if pair[at].result in DECIDED else edge for pair in chosen] for at in (0, 1))
        axes.plot(xs, ys, "o", color=colour, alpha=0.5, markersize=4, label=f"{word} ({len(chosen)})", linestyle="none")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = (0.8 * min(max(s.seconds, SHORTEST) for pair in points for s in pair if s.result in DECIDED), 1.3 * edge)
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.axvline(edge, color="grey", linestyle=":", linewidth=0.8)
    axes.axhline(edge, color="grey", linestyle=":", linewidth=0.8)
    axes.set(xlim=ends, ylim=ends, title=category or "all benchmarks")
    axes.legend(loc="upper left")
    _save(figure, out)


def _chosen(table: ToolTable, category: str | None) -> dict[InstanceKey, Said]:
    return {key: in_time(said) for key, said in table.said.items() if category in (None, key.category)}


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, out: Path) -> None:
    """In the format of the name's ending; an SVG is the same for the same tables."""
    try:
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    except ValueError as error:
        raise DataError(f"{out}: {error}") from error
