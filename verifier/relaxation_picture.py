"""A picture of relaxation tables as SVG: per network, how far each method's bound is from the exact value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.sax.saxutils import escape

from verifier.relaxations import Table

WIDTH, LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 920, 80, 300, 50, 50, 420
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5a97", "#c77d0a", "#4a4e69", "#00798c")
FLOOR = 1e-5  # gaps, as shares of the interval's, that are smaller are drawn here


def picture(tables: Mapping[str, Table]) -> str:
    """An SVG: one line per table, the gap of each method as a share of the gap of interval bounds, on a logarithmic scale.

    A method without a bound leaves a hole. Where the exact value is not known the gap is to the best execution, and the line is dashed.
    Raises ValueError where there is nothing to draw.
    """
    methods = [row.method for row in next(iter(tables.values())).rows if row.method != "exact"] if tables else []
    if not methods:
        raise ValueError("there is no table to draw")
    x = {method: LEFT + k * (WIDTH - LEFT - RIGHT) / max(len(methods) - 1, 1) for k, method in enumerate(methods)}
    parts = [_text(LEFT - 50, 24, "Gap to the exact minimum, as a share of the gap of interval bounds", size=15), *_axes(x)]
    for k, (name, table) in enumerate(tables.items()):
        parts += _line(table, x, COLOURS[k % len(COLOURS)])
        parts += _legend(k, name, table)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *parts, "</svg>", ""])


def _height(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * math.log10(max(min(share, 1.0), FLOOR)) / math.log10(FLOOR)


def _axes(x: Mapping[str, float]) -> list[str]:
    parts = []
    for power in range(0, round(math.log10(FLOOR)) - 1, -1):
        y = _height(10.0**power)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 12, y + 4, f"{100 * 10.0**power:g} %", anchor="end"))
    return [*parts, *(_text(at, HEIGHT - BOTTOM + 24, method, anchor="middle") for method, at in x.items())]


def _line(table: Table, x: Mapping[str, float], colour: str) -> list[str]:
    gaps = {row.method: table.gap(row) for row in table.rows}
    whole = gaps.get("interval") or 1.0
    points = [(x[method], _height(gap / whole)) for method, gap in gaps.items() if method in x and gap is not None]
    dashes = "" if table.exact is not None else ' stroke-dasharray="6 4"'
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dots = [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>' for a, b in points]
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>', *dots]


def _legend(k: int, name: str, table: Table) -> list[str]:
    y = TOP + 10 + 44 * k
    about = f"{table.inputs} inputs, {table.hidden} undecided neurons" + ("" if table.exact is not None else "; gap to the best run")
    left = WIDTH - RIGHT + 40
    colour = COLOURS[k % len(COLOURS)]
    return [
        f'<rect x="{left - 18}" y="{y - 10}" width="12" height="12" fill="{colour}"/>', _text(left, y, name),
        _text(left, y + 15, about, size=10),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222222">{escape(text)}</text>'
