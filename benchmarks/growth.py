"""How the cost of one bounding pass grows with width, depth, rows and boxes.

    OMP_NUM_THREADS=1 python -m benchmarks.growth [--out CSV] [--page MD] [--picture SVG]

Resumable: points that are in the table are not measured again. Every point is a process of its own, on one thread; times are CPU seconds, the
least of a few passes, so that a busy machine disturbs them little. The page and the picture are made from the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import table
from benchmarks.instances import DataError
from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.load import load

ROOT = Path(__file__).resolve().parents[1]
SIDE, INPUTS, CLASSES = 16, 64, 10  # images of 3 x SIDE x SIDE; inputs of the dense networks; outputs of both
RADIUS = {"dense": 0.05, "convolutional": 0.002}  # about half of the neurons stay undecided in the first layers
SECONDS, PASSES, SQUARE = 2.0, 3, 1024  # passes are repeated for so long, and at least so often; the side of the matrices that give the peak
MEMORY = 1 << 28  # bytes of one block of backward coefficients: what `verify` allows itself on a machine with 8 GB
AXES = {
    "dense": {"width": (32, 64, 128, 256, 512, 1024), "depth": (2, 3, 4, 6, 8, 12), "rows": (1, 9, 30, 100, 300), "boxes": (1, 4, 16, 64, 256)},
    "convolutional": {"width": (4, 8, 16, 24, 32), "depth": (1, 2, 3, 4)},
}
COLUMNS = (
    "family", "axis", "width", "depth", "rows", "boxes", "neurons", "undecided", "seconds", "forward_seconds", "flops", "peak_flops", "megabytes",
)  # fmt: skip
HEADINGS = ("varied", "width", "depth", "rows", "boxes", "neurons", "undecided", "s", "per forward pass", "of peak", "MB")


@dataclass(frozen=True)
class Point:
    """`depth` hidden layers of `width` neurons (or channels), `rows` functionals of the outputs bounded over `boxes` boxes. `axis` is what varies."""

    family: str
    axis: str
    width: int
    depth: int
    rows: int = 9
    boxes: int = 1

    @property
    def key(self) -> tuple[str, ...]:
        """How the table names it."""
        return tuple(str(value) for value in asdict(self).values())


BASE = {"dense": Point("dense", "", 128, 4, boxes=16), "convolutional": Point("convolutional", "", 8, 2)}


def points() -> list[Point]:
    """All of them: along each axis one number varies, the others are those of BASE."""
    return [
        replace(BASE[family], axis=axis, **{axis: value}) for family, axes in AXES.items() for axis, values in axes.items() for value in values
    ]


def network(point: Point) -> bytes:
    """Relu layers with random weights that keep the size of what passes through them."""
    rng = np.random.default_rng(0)
    nodes, weights, shape = [], [], [INPUTS] if point.family == "dense" else [3, SIDE, SIDE]
    for k in range(point.depth + 1):
        last = k == point.depth
        name = f"w{k}"
        if point.family == "convolutional" and not last:
            fan_in, size = 9 * shape[0], (point.width, shape[0], 3, 3)
            nodes.append(helper.make_node("Conv", [f"r{k}", name], [f"h{k}"], pads=[1, 1, 1, 1], strides=[1, 1]))
            shape = [point.width, SIDE, SIDE]
        else:
            if len(shape) > 1:
                nodes.append(helper.make_node("Flatten", [f"r{k}"], [f"f{k}"]))
            source, fan_in = f"f{k}" if len(shape) > 1 else f"r{k}", int(np.prod(shape))
            shape = [CLASSES if last else point.width]
            size = (fan_in, shape[0])
            nodes.append(helper.make_node("MatMul", [source, name], [f"h{k}"]))
        weights.append(numpy_helper.from_array(rng.normal(scale=(2 / fan_in) ** 0.5, size=size).astype(np.float32), name))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{k}"], [f"r{k + 1}"]))
    first = [1, INPUTS] if point.family == "dense" else [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        nodes, "growth", [helper.make_tensor_value_info("r0", TensorProto.FLOAT, first)],
        [helper.make_tensor_value_info(f"h{point.depth}", TensorProto.FLOAT, [1, CLASSES])], weights,
    )  # fmt: skip
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def least_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the quickest of a few runs."""
    best, until, runs = float("inf"), time.process_time() + SECONDS, 0
    while runs < PASSES or time.process_time() < until:
        began = time.process_time()
        work()
        best, runs = min(best, time.process_time() - began), runs + 1
    return best


@torch.no_grad()
def measure(point: Point) -> dict[str, str]:
    """A line of the table, measured in this process, which must be fresh: its peak memory counts."""
    torch.set_num_threads(1)
    net = TorchGraph(load(network(point)).graph, torch.float32, "cpu")
    linear = LinearBounds(net, MEMORY)
    rng = np.random.default_rng(1)
    centre = torch.from_numpy(rng.uniform(size=(point.boxes, net.input_size)).astype(np.float32))
    rows = torch.from_numpy(rng.normal(size=(1, point.rows, CLASSES)).astype(np.float32))
    output = net.graph.outputs[0]

    def bound() -> torch.Tensor:
        state = linear.propagate(centre - RADIUS[point.family], centre + RADIUS[point.family])
        return linear.lower_bound(state, {output: rows}, None).value

    left, right = torch.ones(SQUARE, SQUARE), torch.ones(SQUARE, SQUARE)
    forward, product = least_seconds(lambda: net.outputs(centre)), least_seconds(lambda: left @ right)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    value = bound()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if not bool(torch.isfinite(value).all()):
        raise RuntimeError(f"{point}: a bound is not finite, so this is no pass to measure")
    with FlopCounterMode(display=False) as counter:
        bound()
    state = linear.propagate(centre - RADIUS[point.family], centre + RADIUS[point.family], refine=False)
    undecided = sum(len(linear.undecided(state, i)) for i in linear.targets)
    return dict(zip(COLUMNS, [
        *point.key, str(sum(net.graph.nodes[i].size for i in linear.targets)), str(undecided), f"{least_seconds(bound):.6f}", f"{forward:.6f}",
        str(counter.get_total_flops()), f"{2 * SQUARE**3 / product:.4g}", f"{memory / 1024:.1f}",
    ], strict=True))  # fmt: skip


def picture(lines: Sequence[Mapping[str, str]], out: Path) -> None:
    """Seconds as multiples of a forward pass, and memory, along each axis of each family."""
    panels = [(family, axis) for family, axes in AXES.items() for axis in axes]
    figure = Figure(figsize=(11, 6), layout="constrained")
    for place, (family, axis) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        chosen = [line for line in lines if (line["family"], line["axis"]) == (family, axis)]
        x = [int(line[axis]) for line in chosen]
        place.plot(x, [ratio(line) for line in chosen], "o-", color="tab:blue", label="time / forward pass")
        place.plot(x, [max(float(line["megabytes"]), 0.1) for line in chosen], "s--", color="tab:red", label="peak memory, MB")
        place.set(xlabel=f"{axis} ({family})", xscale="log", yscale="log")
        place.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


def ratio(line: Mapping[str, str]) -> float:
    """CPU seconds of the pass per CPU second of a forward pass over as many points as there are boxes."""
    return float(line["seconds"]) / float(line["forward_seconds"])


def page(lines: Sequence[Mapping[str, str]]) -> str:
    """docs/growth.md."""
    parts = [
        "# How the cost of a bounding pass grows", "",
        "Written by `python -m benchmarks.growth` from `benchmarks/results/growth.csv`; do not edit.", "",
        "One pass of backward linear bounds in float32 on one thread: every hidden layer's undecided neurons, then the rows, over all boxes at once.",
        f"Random Relu networks: dense ones on {INPUTS} inputs, convolutional ones (3x3, stride 1) on images of 3x{SIDE}x{SIDE}. 'per forward pass'",
        "is the time divided by that of a plain forward pass of as many points as there are boxes; 'of peak' the rate of the pass, in products and",
        "sums of its matrix products, as a share of that of a large one on the same core. Memory is what the pass adds to the process.", "",
        "![time and memory along each axis](growth.svg)", "",
    ]  # fmt: skip
    for family, axes in AXES.items():
        parts += [f"## {family.capitalize()}", "", f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
        for line in (line for axis in axes for line in lines if (line["family"], line["axis"]) == (family, axis)):
            share = float(line["flops"]) / float(line["seconds"]) / float(line["peak_flops"])
            cells = [line[name] for name in ("axis", "width", "depth", "rows", "boxes", "neurons", "undecided")]
            cells += [f"{float(line['seconds']):.3g}", f"{ratio(line):,.0f}", f"{share:.0%}", line["megabytes"]]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/growth.csv")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/growth.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/growth.svg")
    parser.add_argument("--point", help="measure this one, given as JSON, and print its line")
    options = parser.parse_args(arguments)
    if options.point is not None:
        print(json.dumps(measure(Point(**json.loads(options.point)))))
        return 0
    try:
        lines = table.read(options.out, COLUMNS)
    except DataError as error:
        print(error, file=sys.stderr)
        return 3
    known = {tuple(line[name] for name in COLUMNS[:6]) for line in lines}
    for point in points():
        if point.key not in known:
            print(point, file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "benchmarks.growth", "--point", json.dumps(asdict(point))]
            lines.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout))
            table.write(options.out, COLUMNS, lines)
    picture(lines, options.picture)
    options.page.write_text(page(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
