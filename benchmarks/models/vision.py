"""Public convolutional architectures, written from their papers. Weights are PyTorch's initial ones; `seeded` draws them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activation: nn.Module | None = None) -> nn.Sequential:
    """Convolution without a bias, batch normalisation, activation."""
    parts: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, *([] if activation is None else [activation]))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride, activation=nn.ReLU())
        self.second = convolution(outputs, outputs, 3)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 with all of its widths and strides: 11.2 million parameters for ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, 64, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1))
        blocks: list[nn.Module] = []
        for before, width, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            blocks += [BasicBlock(before, width, stride), BasicBlock(width, width, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def vgg11() -> nn.Module:
    """VGG-11 (Simonyan and Zisserman 2015) for images of 32x32: all eight convolutions, three dense layers, dropout as in training."""
    parts: list[nn.Module] = []
    channels = 3
    for width in (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"):
        if isinstance(width, str):
            parts.append(nn.MaxPool2d(2))
        else:
            parts += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    dense = [nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 10)]
    return nn.Sequential(*parts, nn.Flatten(), *dense)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        parts = [] if expansion == 1 else [convolution(inputs, hidden, 1, activation=nn.ReLU6())]
        self.body = nn.Sequential(*parts, convolution(hidden, hidden, 3, stride, hidden, nn.ReLU6()), convolution(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(blocks: Sequence[tuple[int, int, int, int]] = MOBILENET) -> nn.Module:
    """MobileNetV2, width 1: expansion, channels, repetitions, stride of each stage."""
    parts: list[nn.Module] = [convolution(3, 32, 3, 2, activation=nn.ReLU6())]
    channels = 32
    for expansion, width, repeat, stride in blocks:
        for k in range(repeat):
            parts.append(InvertedResidual(channels, width, stride if k == 0 else 1, expansion))
            channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 10)]
    return nn.Sequential(*parts, convolution(channels, 1280, 1, activation=nn.ReLU6()), *head)


class DenseLayer(nn.Module):
    """Normalisation, ReLU, bottleneck, normalisation, ReLU, 3x3; the result is appended (Huang et al. 2017)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet_block() -> nn.Module:
    """The stem, the first dense block (six layers, growth 32) and transition of DenseNet-121, and a classifier."""
    layers = [DenseLayer(64 + 32 * k, 32) for k in range(6)]
    transition = [nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 128, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(
        convolution(3, 64, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1), *layers, *transition,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with two levels, upsampling by transposed convolution, and 8 channels at the top."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._double(1, width), self._double(width, 2 * width)])
        self.bottom = self._double(2 * width, 4 * width)
        self.up = nn.ModuleList([nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2)])
        self.join = nn.ModuleList([self._double(4 * width, 2 * width), self._double(2 * width, width)])
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _double(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, join, before in zip(self.up, self.join, reversed(kept), strict=True):
            x = join(torch.cat([before, up(x)], 1))
        return self.head(x)


class PointNet(nn.Module):
    """PointNet (Qi et al. 2017) with its input transform: a network multiplies the points by a matrix that it computes from them."""

    def __init__(self, classes: int = 10, points: int = 64) -> None:
        super().__init__()
        pooled = [nn.MaxPool1d(points), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 9)]
        self.transform = nn.Sequential(self._shared(3, 64), self._shared(64, 128), *pooled)
        self.features = nn.Sequential(self._shared(3, 64), self._shared(64, 128), self._shared(128, 256))
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, classes))

    @staticmethod
    def _shared(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.transform(x).reshape(-1, 3, 3) + torch.eye(3)
        moved = torch.bmm(x.transpose(1, 2), matrix).transpose(1, 2)
        return self.head(self.features(moved).max(dim=2).values)


def generator(width: int = 16) -> nn.Module:
    """A DCGAN generator (Radford et al. 2016): 32 numbers to a 3x32x32 image."""
    parts: list[nn.Module] = [nn.Unflatten(1, (32, 1, 1))]
    for inputs, outputs, stride in ((32, 4 * width, 1), (4 * width, 2 * width, 2), (2 * width, width, 2)):
        parts += [nn.ConvTranspose2d(inputs, outputs, 4, stride, 0 if stride == 1 else 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())


def autoencoder() -> nn.Module:
    """A convolutional autoencoder of 1x28x28 images with 32 numbers in the middle."""
    encoder = [nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, 32)]
    decoder = [
        nn.Linear(32, 32 * 49), nn.ReLU(), nn.Unflatten(1, (32, 7, 7)), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(16, 1, 3, 1, 1), nn.Sigmoid(),
    ]
    return nn.Sequential(*encoder, *decoder)


def small_cnn() -> nn.Module:
    """The network that is quantised: two convolutions, pooling, two dense layers on 1x28x28."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.AvgPool2d(7), nn.Flatten(),
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10),
    )
