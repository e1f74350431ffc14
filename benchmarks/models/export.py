"""The models as files: exported by both of PyTorch's exporters, skl2onnx, onnxruntime's quantiser and optimiser, and onnxscript."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.transformers.optimizer import optimize_model
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.models import sequences, vision

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """`build` makes the network; `shape` of its input, one batch element; `radius` of the box around a point of [0, 1] (images) or [-1, 1]."""

    build: Callable[[], nn.Module]
    shape: Shape
    radius: float
    image: bool = True


ARCHITECTURES: dict[str, Architecture] = {
    "ResNet-18": Architecture(vision.ResNet18, (1, 3, 32, 32), 1 / 255),
    "VGG-11": Architecture(vision.vgg11, (1, 3, 32, 32), 1 / 255),
    "MobileNetV2": Architecture(vision.mobilenet_v2, (1, 3, 32, 32), 1 / 255),
    "DenseNet block": Architecture(vision.densenet_block, (1, 3, 32, 32), 1 / 255),
    "U-Net": Architecture(vision.UNet, (1, 1, 32, 32), 1 / 255),
    "PointNet": Architecture(vision.PointNet, (1, 3, 64), 0.001, image=False),
    "GAN generator": Architecture(vision.generator, (1, 32), 0.001, image=False),
    "autoencoder": Architecture(vision.autoencoder, (1, 1, 28, 28), 1 / 255),
    "LSTM": Architecture(lambda: sequences.Recurrent(nn.LSTM), (1, 8, 8), 0.001, image=False),
    "GRU": Architecture(lambda: sequences.Recurrent(nn.GRU), (1, 8, 8), 0.001, image=False),
    "ViT-tiny": Architecture(lambda: sequences.ViT(12), (1, 3, 32, 32), 1 / 255),
    "ViT-tiny, one block": Architecture(lambda: sequences.ViT(1), (1, 3, 32, 32), 1 / 255),
    "BERT-tiny": Architecture(sequences.Bert, (1, 8, 128), 0.001, image=False),
    "GPT block": Architecture(sequences.Gpt, (1, 8, 64), 0.001, image=False),
}


def seeded(architecture: Architecture, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, weights drawn from `seed`; batch normalisations have seen something."""
    torch.manual_seed(seed)
    net = architecture.build().eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return net


def by_torch(net: nn.Module, shape: Shape, *, dynamo: bool) -> bytes:
    """Exported with PyTorch's newer (`dynamo`) or older exporter, with its default options."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(net, (torch.zeros(shape),), dynamo=True, verbose=False)
            program.save(buffer)
        else:
            torch.onnx.export(net, (torch.zeros(shape),), buffer, dynamo=False)
    return buffer.getvalue()


def by_sklearn(output: str) -> bytes:
    """scikit-learn's MLP on its own iris data, converted by skl2onnx with its default options: `double` input, a label and probabilities."""
    data = load_iris()
    if output == "probabilities":
        net = make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(16, 16), random_state=0, max_iter=300)).fit(data.data, data.target)
        found = to_onnx(net, data.data[:1], options={"zipmap": False})
    else:
        net = MLPRegressor(hidden_layer_sizes=(16, 16), random_state=0, max_iter=300).fit(data.data[:, :3], data.data[:, 3])
        found = to_onnx(net, data.data[:1, :3])
    return bytes(found.SerializeToString())


class _Images(CalibrationDataReader):
    """Sixteen random images."""

    def __init__(self, name: str, shape: Shape) -> None:
        draw = np.random.default_rng(0)
        self._left = iter([{name: draw.random(shape, dtype=np.float32)} for _ in range(16)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


def by_quantiser(folder: Path) -> bytes:
    """A small CNN, quantised to QDQ form by onnxruntime's static quantiser with its default types."""
    shape = (1, 1, 28, 28)
    source, target = folder / "plain.onnx", folder / "quantised.onnx"
    source.write_bytes(by_torch(seeded(Architecture(vision.small_cnn, shape, 0)), shape, dynamo=False))
    name = onnx.load(source).graph.input[0].name
    quantize_static(source, target, _Images(name, shape), quant_format=QuantFormat.QDQ)
    return target.read_bytes()


def by_optimiser(folder: Path) -> bytes:
    """BERT-tiny through the optimiser of onnxruntime's transformers tools, which fuses into operators of com.microsoft."""
    source = folder / "bert.onnx"
    architecture = ARCHITECTURES["BERT-tiny"]
    source.write_bytes(by_torch(seeded(architecture), architecture.shape, dynamo=False))
    found = optimize_model(str(source), model_type="bert", num_heads=2, hidden_size=128, opt_level=0)
    found.save_model_to_file(str(folder / "optimised.onnx"))
    return (folder / "optimised.onnx").read_bytes()


@dataclass(frozen=True)
class File:
    """A model as a file: how it is exported, the output to take ("": its only one), the radius, whether inputs are images in [0, 1], and the
    architecture: files of one architecture compute the same function, so that only one of them is bounded (`again`: the others)."""

    name: str
    exporter: str
    make: Callable[[Path], bytes]
    radius: float
    image: bool
    output: str = ""
    again: bool = False


def files() -> list[File]:
    """All of them."""
    found = []
    for name, architecture in ARCHITECTURES.items():
        for dynamo, exporter in ((True, "torch.onnx, dynamo=True"), (False, "torch.onnx, dynamo=False")):
            make = partial(_torch_file, architecture, dynamo)
            found.append(File(name, exporter, make, architecture.radius, architecture.image, again=not dynamo))
    found.append(File("MLP classifier", "skl2onnx", lambda folder: by_sklearn("probabilities"), 0.001, False, "probabilities"))
    found.append(File("MLP regressor", "skl2onnx", lambda folder: by_sklearn(""), 0.001, False))
    found.append(File("quantised CNN", "onnxruntime quantize_static, QDQ", by_quantiser, 1 / 255, True))
    found.append(File("BERT-tiny", "onnxruntime.transformers optimizer", by_optimiser, 0.001, False, again=True))
    return found


def _torch_file(architecture: Architecture, dynamo: bool, folder: Path) -> bytes:
    return by_torch(seeded(architecture), architecture.shape, dynamo=dynamo)
