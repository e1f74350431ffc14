"""onnxruntime on whole models, its graph optimised and not: no output leaves the checker's `float32` interval of that very point."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from verifier.checker import read_model
from verifier.checker.arithmetic import Array
from verifier.checker.bounds import Checker
from verifier.checker.slack import Slack

F = np.float32
FAMILIES = (
    "acasxu", "collins_rul_cnn", "cora", "dist_shift", "linearizenn", "mnist_fc", "nn4sys", "oval21", "reach_prob_density", "rl_benchmarks",
    "safenlp", "sri_resnet_a", "tllverifybench", "vit",
)  # fmt: skip


def outputs(data: bytes, points: Sequence[Array], optimised: bool) -> list[list[Array]]:
    """What the runtime says at flat inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found = []
    for x in points:
        feeds, at = {}, 0
        for i in session.get_inputs():
            shape = [n if isinstance(n, int) else 1 for n in i.shape]
            size = int(np.prod(shape))
            feeds[i.name] = x[at : at + size].reshape(shape)
            at += size
        found.append([np.asarray(y).reshape(-1) for y in session.run(None, feeds)])
    return found


def compare(data: bytes, points: Array) -> None:
    network = read_model.read(data)
    ends = points.astype(np.float64)
    state = Checker(network, Slack(network)).state(len(points), ends, ends, {}, {}, 0)
    for optimised in (True, False):
        for k, ys in enumerate(outputs(data, list(points), optimised)):
            for y, node in zip(ys, network.outputs, strict=True):
                row = k if len(state.lower[node]) > 1 else 0
                assert (state.lower[node][row] <= y).all() and (y <= state.upper[node][row]).all()


class Sketch:
    """A random model, operator by operator, on [1, 3, 6, 6]."""

    def __init__(self, seed: int) -> None:
        self.rng, self.nodes, self.constants = np.random.default_rng(seed), list[onnx.NodeProto](), list[onnx.TensorProto]()
        self.channels, self.side, self.at = 3, 6, "x"

    def number(self, *shape: int, low: float | None = None) -> str:
        value = self.rng.normal(size=shape) * 10.0 ** self.rng.uniform(-2, 1) if low is None else self.rng.uniform(low, 2, shape)
        self.constants.append(numpy_helper.from_array(np.asarray(value, F), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def put(self, kind: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, [self.at, *inputs], [f"t{len(self.nodes)}"], **attributes))
        self.at = self.nodes[-1].output[0]
        return self.at

    def grow(self) -> None:
        kinds = ("conv", "norm", "relu", "leaky", "residual", "mul", "add", "sub", "div", "squash", "pool", "neg", "gate")
        kind, c, before = str(self.rng.choice(kinds)), self.channels, self.at
        match kind:
            case "conv":
                self.channels = int(self.rng.integers(1, 4))
                inputs = [self.number(self.channels, c, 3, 3), *([self.number(self.channels)] if self.rng.random() < 0.5 else [])]
                self.put("Conv", *inputs, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
            case "norm":
                self.put("BatchNormalization", *(self.number(c) for _ in range(3)), self.number(c, low=0.01))
            case "leaky":
                self.put("LeakyRelu", alpha=0.1)
            case "residual":
                self.put("Conv", self.number(c, c, 1, 1), kernel_shape=[1, 1])
                self.put("Add", before)
            case "mul" | "add" | "sub":
                self.put(kind.capitalize(), self.number(c, 1, 1))
            case "div":
                self.put("Div", self.number(c, 1, 1, low=0.5))
            case "squash":
                self.put(str(self.rng.choice(["Sigmoid", "Tanh"])))
            case "pool" if self.side >= 4:
                self.side //= 2
                self.put(str(self.rng.choice(["AveragePool", "MaxPool"])), kernel_shape=[2, 2], strides=[2, 2])
            case "gate":
                self.put("Sigmoid")
                self.put("Mul", before)
            case "neg":
                self.put("Neg")
            case _:
                self.put("Relu")

    def model(self) -> bytes:
        for _ in range(int(self.rng.integers(2, 9))):
            self.grow()
        self.put("Flatten")
        self.put("Gemm", self.number(4, self.channels * self.side**2), self.number(4), transB=1, alpha=0.75, beta=1.25)
        if self.rng.random() < 0.3:
            self.put("Softmax", axis=-1)
        ends = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6]), helper.make_tensor_value_info(self.at, TensorProto.FLOAT, [1, 4])
        graph = helper.make_graph(self.nodes, "g", [ends[0]], [ends[1]], self.constants)
        return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_random_models(first: int) -> None:
    for seed in range(first, first + 20):
        compare(Sketch(seed).model(), np.random.default_rng(seed).normal(size=(3, 108)).astype(F))


@pytest.mark.vnncomp
@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_the_competition(family: str, vnncomp_dir: Path) -> None:
    files = sorted((vnncomp_dir / family).rglob("*.onnx.gz"))
    assert files
    data = gzip.decompress(files[0].read_bytes())
    network = read_model.read(data)
    size = sum(network.nodes[i].size for i in network.inputs)
    compare(data, np.random.default_rng(1).uniform(0, 1, (2, size)).astype(F))
