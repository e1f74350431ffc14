"""Line charts as SVG, and grey or colour images as PNG, both small enough to stand in a page; nothing but the standard library and numpy."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 52, 150, 14, 40
COLOURS = ("#2e7d32", "#1565c0", "#ef6c00", "#6a1b9a", "#00838f", "#5d4037")


@dataclass(frozen=True)
class Line:
    """One series: points (x, y) in order of x. `steps`: "after", y holds from its x on; "before", up to its x; "": straight lines."""

    name: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False
    steps: str = ""
    marks: bool = False  # a dot at each point


def chart(title: str, across: str, up: str, lines: Sequence[Line], top: float | None = None) -> str:
    """An SVG that scales with the page. The axes begin at 0; `top`: the end of the y axis, else that of the data."""
    ends_x, ends_y = (_nice(max((p[i] for line in lines for p in line.points), default=1.0) or 1.0) for i in (0, 1))
    ends_y = _nice(top) if top is not None else ends_y
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (right - LEFT) * x / ends_x[0], bottom - (bottom - TOP) * min(y / ends_y[0], 1.0)

    parts = [f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" class="chart"><title>{escape(title)}</title>']
    for i in range(ends_y[1] + 1):
        value = ends_y[0] * i / ends_y[1]
        y = place(0, value)[1]
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/><text x="{LEFT - 6}" y="{y + 4:.1f}" '
                     f'text-anchor="end">{value:g}</text>')
    for i in range(ends_x[1] + 1):
        value = ends_x[0] * i / ends_x[1]
        x = place(value, 0)[0]
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for number, line in enumerate(lines):
        parts += _drawn(line, COLOURS[number % len(COLOURS)], place, TOP + 12 + 18 * number)
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<text transform="translate(12 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text></svg>')
    return "".join(parts)


def _drawn(line: Line, colour: str, place: Any, legend: float) -> list[str]:
    points = marked = [place(x, y) for x, y in line.points]
    if line.steps:
        corner = {"after": lambda a, b: (b[0], a[1]), "before": lambda a, b: (a[0], b[1])}[line.steps]
        points = [q for i, p in enumerate(points) for q in ([corner(points[i - 1], p), p] if i else [p])]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if line.dashed else ""
    drawn = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>']
    drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in marked if line.marks]
    x = WIDTH - RIGHT + 10
    drawn.append(f'<line x1="{x}" x2="{x + 22}" y1="{legend - 4}" y2="{legend - 4}" stroke="{colour}" stroke-width="2"{dash}/>')
    drawn.append(f'<text x="{x + 27}" y="{legend}">{escape(line.name)}</text>')
    return drawn


def _nice(most: float) -> tuple[float, int]:
    """A round number at or above `most`, and into how many parts it is divided."""
    if not (math.isfinite(most) and most > 0):
        return 1.0, 5
    power = 10.0 ** math.floor(math.log10(most))
    for step, parts in ((1, 5), (2, 4), (2.5, 5), (5, 5), (10, 5)):
        if most <= step * power * (1 + 1e-9):
            return step * power, parts
    return 10 * power, 5


def picture(values: Array, low: float, high: float) -> str:
    """A data: address of a PNG. values [h, w] grey, or [h, w, 3]; low and high are black and white."""
    span = high - low if high > low else 1.0
    pixels = np.clip(np.round((values.astype(np.float64) - low) / span * 255), 0, 255).astype(np.uint8)
    colour = 2 if pixels.ndim == 3 else 0
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, colour, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def as_picture(values: Array) -> Array | None:
    """A sample as [h, w] or [h, w, 3], if it is an image: two axes, or three of which one counts 1 or 3 channels."""
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    grey, colour = values.ndim == 2, values.ndim == 3 and values.shape[2] == 3
    return values if (grey or colour) and min(values.shape[:2]) > 1 else None
