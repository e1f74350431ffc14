"""The network as it is deployed: onnxruntime on the original file, flat float32 in, flat float out. Nothing of the engine is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from benchmarks.formula import decompressed

ORT_ERRORS = (states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf, states.NoSuchFile, states.NotImplemented,
              states.RuntimeException, states.EPFail, states.NoModel, states.ModelRequiresCompilation)
ELEMENT = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class RuntimeUnusable(Exception):
    """onnxruntime cannot run the file, or its inputs are not floating point."""


class Runtime:
    """`run(x)` executes the file as it is, one input at a time. `size` is the number of input elements over all inputs.

    `hidden` are tensors of the file that are returned behind its outputs.
    """

    def __init__(self, path: Path, threads: int = 1, hidden: Sequence[str] = ()) -> None:
        self._bytes = decompressed(path) if path.suffix == ".gz" else None
        if hidden:
            model = onnx.load_model_from_string(self._bytes or path.read_bytes())
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in hidden)
            self._bytes = model.SerializeToString()
        self._path = path
        self.threads = threads
        self.session = self._session(self._bytes or str(path))
        self.inputs = self.session.get_inputs()
        unknown = [i.type for i in self.inputs if i.type not in ELEMENT]
        if unknown:
            raise RuntimeUnusable(f"{path}: inputs of type {unknown[0]} are not floating point")
        self.shapes = [[d if isinstance(d, int) and d > 0 else 1 for d in i.shape] for i in self.inputs]
        self.sizes = [int(np.prod(s)) for s in self.shapes]
        self.size = sum(self.sizes)

    def _session(self, model: bytes | str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            raise RuntimeUnusable(f"{self._path}: onnxruntime cannot load the file: {error}") from error

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 [size]. Returns the outputs, flattened and joined. Raises RuntimeUnusable."""
        if x.size != self.size:
            raise RuntimeUnusable(f"{self._path}: the network has {self.size} inputs, {x.size} values were given")
        parts = np.split(x.astype(np.float32), np.cumsum(self.sizes)[:-1])
        feed = {i.name: p.astype(ELEMENT[i.type]).reshape(s) for i, p, s in zip(self.inputs, parts, self.shapes, strict=True)}
        try:
            return np.concatenate([np.asarray(y).ravel() for y in self.session.run(None, feed)])
        except ORT_ERRORS as error:
            raise RuntimeUnusable(f"{self._path}: onnxruntime cannot run the file: {error}") from error

    def run_batch(self, x: np.ndarray) -> np.ndarray:
        """x: float32 [batch, size]. Returns [batch, outputs], one row after the other."""
        return np.stack([self.run(row) for row in x])


class BatchedRuntime(Runtime):
    """`run_batch` in one call, through a copy of the file whose first dimension is free. For guidance only, never for judging.

    Raises RuntimeUnusable where that copy does not run, or does not give the same rows as the file itself.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        super().__init__(path, threads)
        if len(self.inputs) != 1 or self.shapes[0][:1] != [1]:
            raise RuntimeUnusable(f"{path}: the first dimension is not a batch of one")
        model = onnx.load_model_from_string(self._bytes) if self._bytes else onnx.load(str(path))
        del model.graph.value_info[:]
        for value in [*model.graph.input, *model.graph.output]:
            if value.name not in {i.name for i in model.graph.initializer} and value.type.tensor_type.shape.dim:
                value.type.tensor_type.shape.dim[0].dim_param = "batch"
        self.free = self._session(model.SerializeToString())
        probe = np.random.default_rng(1).uniform(-1, 1, (3, self.size)).astype(np.float32)
        rows, expected = self.run_batch(probe), super().run_batch(probe)
        if rows.shape != expected.shape or not np.allclose(rows, expected, rtol=1e-3, atol=1e-4):
            raise RuntimeUnusable(f"{path}: the rows of a batch influence each other")

    def run_batch(self, x: np.ndarray) -> np.ndarray:
        feed = x.astype(ELEMENT[self.inputs[0].type]).reshape([-1, *self.shapes[0][1:]])
        try:
            outputs = self.free.run(None, {self.inputs[0].name: feed})
            return np.concatenate([np.asarray(y).reshape(len(x), -1) for y in outputs], axis=1)
        except (*ORT_ERRORS, ValueError) as error:  # ValueError: the outputs are not one row per input
            raise RuntimeUnusable(f"{self._path}: not batchable: {error}") from error


def fastest(path: Path, threads: int = 1) -> Runtime:
    """A runtime that batches where the file allows it, and loops otherwise."""
    try:
        return BatchedRuntime(path, threads)
    except RuntimeUnusable:
        return Runtime(path, threads)
