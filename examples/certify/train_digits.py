"""Train the two classifiers of the tutorial on scikit-learn's digits (8 x 8 pixels, values 0 to 16) and write what `soundproof certify` reads.

    python examples/certify/train_digits.py OUT        OUT/mlp.onnx, OUT/cnn.onnx, OUT/digits.npz (500 samples that were not trained on)

Both take values from 0 to 1; the policy beside this file says so. The CNN is trained against an attacker, the MLP is not.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

SAMPLES, EPOCHS, BATCH = 500, 60, 64


def split() -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """(training values [n, 1, 8, 8] in 0..1, training labels, the 500 samples uint8 [500, 8, 8], their labels)."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    held, trained = order[:SAMPLES], order[SAMPLES:]
    values = torch.tensor(digits.images[trained] / 16, dtype=torch.float32)[:, None]
    return values, torch.tensor(digits.target[trained]), digits.images[held].astype(np.uint8), digits.target[held]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 10))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
    )


def attacked(network: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Projected gradient ascent of the loss within `radius`, 7 steps."""
    moved = (x + radius * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(7):
        moved.requires_grad_(True)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(network(moved), y), moved)
        moved = (moved.detach() + radius / 3 * gradient.sign()).clamp(x - radius, x + radius).clamp(0, 1)
    return moved.detach()


def train(network: nn.Sequential, radius: float) -> nn.Sequential:
    """Adam; at a positive radius on attacked samples."""
    x, y, _, _ = split()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for epoch in range(EPOCHS):
        for part in torch.randperm(len(x)).split(BATCH):
            inputs = attacked(network, x[part], y[part], radius * min(1.0, epoch / 20)) if radius else x[part]
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs), y[part]).backward()
            optimiser.step()
    return network.eval()


def main(out: Path) -> None:
    """Train, export, and say how accurate they are."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    _, _, samples, labels = split()
    np.savez(out / "digits.npz", X=samples, y=labels)
    x = torch.tensor(samples / 16, dtype=torch.float32)[:, None]
    for name, network, radius in (("mlp", mlp(), 0.0), ("cnn", cnn(), 0.1)):
        trained = train(network, radius)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(trained, (x[:1],), str(out / f"{name}.onnx"), dynamo=False, input_names=["image"], output_names=["scores"])
        accuracy = float((trained(x).argmax(1).numpy() == labels).mean())
        print(f"{name}: {100 * accuracy:.1f} % of {len(labels)} samples right")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "digits"))
