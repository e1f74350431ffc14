"""Train a classifier of scikit-learn's breast cancer table (30 measurements, malignant or benign) and write what `soundproof certify` reads.

    python examples/certify/train_tables.py OUT        OUT/cancer.onnx, OUT/cancer.csv (100 patients who were not trained on)

The network takes standardised values; the policy that is written beside it, OUT/cancer.toml, states mean and standard deviation, so that
regions are in the units of the table. Weights from "worst concave points" are kept monotone by construction: it only ever speaks for malignant.
"""

from __future__ import annotations

import csv
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

SAMPLES, EPOCHS, RISING = 100, 150, "worst concave points"

POLICY = """# Written by train_tables.py: soundproof certify cancer.onnx --data cancer.csv --policy cancer.toml
gates = [
  "accuracy >= 0.9",
  "certified_accuracy >= 0.8 at measured 1",
  "monotone in feature {rising}",
]

[data]
label = "diagnosis"
id = "patient"
classes = ["benign", "malignant"]

[preprocess]
mean = [{mean}]
std = [{std}]

[[check]]                       # measurements are off by a few per cent, each by its own
name = "measured"
region = "ranges"
radius = [1]
ranges = {{ "mean radius" = "1%", "mean texture" = "2%", "mean perimeter" = "1%", "worst radius" = "1%", "worst texture" = "2%" }}

[[check]]                       # a larger value of this never makes the diagnosis less severe
name = "rising"
region = "ranges"
property = "monotone"
feature = "{rising}"
step = "0.1"
tolerance = "0.01"
ranges = {{ "mean radius" = "1%", "mean texture" = "2%" }}
"""


class Monotone(nn.Module):
    """Two layers; one input reaches the difference of the two scores through weights of one sign only."""

    def __init__(self, inputs: int, rising: int) -> None:
        super().__init__()
        self.first, self.second, self.rising = nn.Linear(inputs, 16), nn.Linear(16, 2), rising

    def constrain(self) -> None:
        """Hidden neurons that speak for malignant may only rise with it, the others only fall."""
        with torch.no_grad():
            speaks = self.second.weight[1] - self.second.weight[0]
            column = self.first.weight[:, self.rising]
            column.copy_(torch.where(column * speaks < 0, torch.zeros_like(column), column))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def main(out: Path) -> None:
    """Train, export, and say how accurate it is."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    table = load_breast_cancer()
    names, labels = [str(n) for n in table.feature_names], 1 - table.target  # 1: malignant
    order = np.random.default_rng(0).permutation(len(labels))
    held, trained = order[:SAMPLES], order[SAMPLES:]
    mean, std = (np.asarray([float(f"{v:.6g}") for v in f(table.data[trained], axis=0)]) for f in (np.mean, np.std))
    x, y = (torch.tensor((table.data[rows] - mean) / std, dtype=torch.float32) for rows in (trained, held))
    network, target = Monotone(len(names), names.index(RISING)), torch.tensor(labels[trained])
    optimiser = torch.optim.Adam(network.parameters(), 1e-2, weight_decay=1e-3)
    for _ in range(EPOCHS):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x + 0.05 * torch.randn_like(x)), target).backward()
        optimiser.step()
        network.constrain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (x[:1],), str(out / "cancer.onnx"), dynamo=False, input_names=["patient"], output_names=["scores"])
    with (out / "cancer.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["patient", *names, "diagnosis"])
        rows.writerows([f"p{i}", *(f"{v:.6g}" for v in table.data[i]), ("benign", "malignant")[labels[i]]] for i in held)
    numbers = {key: ", ".join(f'"{v:.6g}"' for v in values) for key, values in (("mean", mean), ("std", std))}
    (out / "cancer.toml").write_text(POLICY.format(rising=RISING, **numbers), encoding="utf-8")
    print(f"cancer: {100 * float((network(y).argmax(1).numpy() == labels[held]).mean()):.1f} % of {len(held)} patients right")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "cancer"))
