"""Freshly generated instances that nobody has looked at: small trained networks, boxes near the decision boundary.

    python -m benchmarks.fresh --out build/fresh [--seed 0] [--count 100]
    python -m benchmarks.vnncomp build/fresh --timeout 60 --jobs 2 --threads 1 --out benchmarks/results/fresh.csv

Every instance has a network of its own: an architecture of one of KINDS with drawn sizes, trained on a drawn two-class problem. A point that it
classifies well is the centre of a box; an attack finds the least radius at which it wins, and the box's is a share of that (SHARES): small
shares are mostly provable, those near 1 lie where neither a proof nor a witness is easy, those above 1 hold a witness. The folder has the layout
of VNN-COMP, one category for every kind. The same seed gives the same files on the same machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.soundness.train.architectures import Architecture
from benchmarks.soundness.train.attacks import Target, pgd
from benchmarks.soundness.train.export import export
from benchmarks.soundness.train.layers import Activation, Attention, AveragePool, Conv, Dense, Flatten, Layer, Residual, TokenMean, Tokens
from benchmarks.soundness.train.network import Network
from specs.build import linf_box, targeted
from specs.write import write

SHARES = (0.3, 0.5, 0.7, 0.85, 1.05)
STEPS, BATCH, RATE = 400, 256, 3e-3  # of training
HALVINGS, RESTARTS, DESCENT = 12, 60, 30  # of the search for the least radius at which the attack wins
LIMIT = 60  # seconds, in instances.csv

Draw = np.random.Generator


def _dense(draw: Draw, kind: str, layers: int) -> tuple[Layer, ...]:
    return tuple(layer for _ in range(layers) for layer in (Dense(int(draw.integers(16, 97))), Activation(kind)))


def _multilayer(kind: str) -> Callable[[Draw], Architecture]:
    def drawn(draw: Draw) -> Architecture:
        return Architecture((int(draw.integers(4, 65)),), (*_dense(draw, kind, int(draw.integers(2, 6))), Dense(2)), 1.0)

    return drawn


def _image(draw: Draw) -> tuple[int, int, int]:
    side = int(draw.integers(6, 13))
    return int(draw.integers(1, 4)), side, side


def _convolutional(draw: Draw) -> Architecture:
    body: list[Layer] = []
    for k in range(int(draw.integers(1, 4))):
        body += [Conv(int(draw.integers(4, 13)), 3, 1 + k % 2, 1), Activation("Relu")]
    return Architecture(_image(draw), (*body, Flatten(), *_dense(draw, "Relu", 1), Dense(2)), 1.0)


def _pooling(draw: Draw) -> Architecture:
    body = (Conv(int(draw.integers(4, 11)), 3, 1, 1), Activation("Relu"), AveragePool(2, 2), Conv(8, 3, 1, 1), Activation("Relu"))
    return Architecture(_image(draw), (*body, Flatten(), *_dense(draw, "Relu", 1), Dense(2)), 1.0)


def _residual(draw: Draw) -> Architecture:
    width = int(draw.integers(16, 65))
    block = (Residual((Dense(width), Activation("Relu"), Dense(width))), Activation("Relu"))
    return Architecture((int(draw.integers(4, 49)),), (Dense(width), Activation("Relu"), *block * int(draw.integers(1, 4)), Dense(2)), 1.0)


def _transformer(draw: Draw) -> Architecture:
    size = 4 * int(draw.integers(2, 5))
    encoder = (Residual((Attention(2),)), Residual((Dense(2 * size), Activation("Relu"), Dense(size))))
    return Architecture((1, 6, 6), (Conv(size, 3, 3), Tokens(), *encoder, TokenMean(), *_dense(draw, "Relu", 1), Dense(2)), 1.0)


KINDS: dict[str, Callable[[Draw], Architecture]] = {
    "relu": _multilayer("Relu"), "convolutional": _convolutional, "tanh": _multilayer("Tanh"), "residual": _residual, "pooling": _pooling,
    "sigmoid": _multilayer("Sigmoid"), "transformer": _transformer,
}


def trained(architecture: Architecture, seed: int) -> tuple[Network, Tensor]:
    """A network that was trained on a drawn problem (a random network of one hidden layer is the teacher), and points of that problem [P, n]."""
    random = torch.Generator().manual_seed(seed)
    n = int(np.prod(architecture.shape))
    points = 2 * torch.rand(4096, n, generator=random) - 1
    hidden = torch.relu(points @ torch.randn(n, 16, generator=random) / n**0.5) @ torch.randn(16, generator=random)
    labels = (hidden > hidden.median()).float()
    network = Network.fresh(architecture, seed)
    optimiser = torch.optim.Adam(network.parameters, lr=RATE)
    for _ in range(STEPS):
        chosen = torch.randint(len(points), (BATCH,), generator=random)
        loss = torch.nn.functional.softplus(-network.margins(points[chosen], labels[chosen])).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network, points


def least_radius(content: bytes, centre: Tensor, sign: float, seed: int) -> float:
    """About the least radius of a box around `centre` [n] in which gradient descent finds another class; at most 1."""
    functional = sign * torch.tensor([1.0, -1.0])
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        target = Target(content, centre - middle, centre + middle, functional)
        found = pgd(target, RESTARTS, DESCENT, torch.Generator().manual_seed(seed))
        low, high = (low, middle) if float(found.margins.min()) <= 0 else (middle, high)
    return high


def instance(seed: int, number: int) -> tuple[str, bytes, str]:
    """The category, the network and the property of one instance."""
    draw = np.random.default_rng([seed, number])
    kind = list(KINDS)[number % len(KINDS)]
    architecture = KINDS[kind](draw)
    network, points = trained(architecture, int(draw.integers(2**31)))
    with torch.no_grad():
        outputs = network.outputs(points[:256])
        margins = outputs[:, 0] - outputs[:, 1]
        content = export(architecture, [p.detach().numpy() for p in network.parameters]).SerializeToString()
    at = int(margins.abs().argsort()[len(margins) * 3 // 4])  # sure of it, and no extreme
    label = int(margins[at] < 0)
    radius = least_radius(content, points[at], 1 - 2 * label, seed) * SHARES[number // len(KINDS) % len(SHARES)]
    region = linf_box([f"{x:.6f}" for x in points[at].tolist()], f"{radius:.6f}")
    return kind, content, write(targeted(region, label, 1 - label, 2))


def build(out: Path, seed: int, count: int, say: Callable[[str], None]) -> None:
    """Write the instances into the folder `out`, which must be new. Raises FileExistsError."""
    out.mkdir(parents=True)
    for number in range(count):
        kind, content, prop = instance(seed, number)
        say(f"[{number + 1}/{count}] {kind}")
        for name, data in ((f"{kind}/onnx/{number}.onnx", content), (f"{kind}/vnnlib/{number}.vnnlib", prop.encode())):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
        with (out / kind / "instances.csv").open("a", encoding="utf-8") as table:
            table.write(f"onnx/{number}.onnx,vnnlib/{number}.vnnlib,{LIMIT}\n")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fresh", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        build(options.out, options.seed, options.count, lambda text: print(text, file=sys.stderr, flush=True))
    except FileExistsError:
        print(f"{options.out} exists already; name another folder with --out", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
