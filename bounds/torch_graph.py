"""A core graph ready to run in torch: concrete evaluation, and the maps that the bound propagators share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bounds.functions import torch_function
from bounds.torch_map import Context, TorchMap, torch_map
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max


class TorchGraph:
    """`graph` with its constants as tensors of one dtype on one device.

    `weights` maps `id(array)` of a constant of the graph to a tensor used in its place, so that evaluation and bounds
    can be differentiated through it; `replaced` says whether there are any. Inputs are given as one flat tensor: all
    graph inputs, concatenated in order.
    """

    def __init__(
        self,
        graph: Graph,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        weights: Mapping[int, Tensor] | None = None,
    ) -> None:
        self.graph = graph
        self.dtype = dtype
        self.device = torch.device(device)
        self.replaced = bool(weights)
        context = Context(dtype, self.device, weights)
        shared: dict[int, TorchMap] = {}
        self.maps: dict[int, tuple[TorchMap, ...]] = {}
        self.bias: dict[int, Tensor | None] = {}
        self.values: dict[int, Tensor] = {}
        self.windows: dict[int, Tensor] = {}
        for i, node in graph:
            if isinstance(node, Affine):
                for m in node.maps:
                    if id(m) not in shared:
                        shared[id(m)] = torch_map(m, context)
                self.maps[i] = tuple(shared[id(m)] for m in node.maps)
                self.bias[i] = None if node.bias is None else context.tensor(node.bias)
            elif isinstance(node, Constant):
                self.values[i] = context.tensor(node.value)
            elif isinstance(node, Max):
                self.windows[i] = torch.from_numpy(node.windows).long().to(self.device)
        self.input_sizes = [graph.nodes[i].size for i in graph.inputs]

    @property
    def input_size(self) -> int:
        return sum(self.input_sizes)

    def split_inputs(self, x: Tensor) -> dict[int, Tensor]:
        """Flat concatenated inputs [..., n_in] as one tensor per input node."""
        if x.shape[-1] != self.input_size:
            raise ValueError(f"the network has {self.input_size} inputs, the box has {x.shape[-1]}")
        return dict(zip(self.graph.inputs, x.split(self.input_sizes, dim=-1), strict=True))

    def evaluate(self, x: Tensor) -> list[Tensor]:
        """The flat value [B, size] of every node at the inputs `x` [B, n_in]; differentiable."""
        given = self.split_inputs(x)
        values: list[Tensor] = []
        for i, node in self.graph:
            match node:
                case Input():
                    y = given[i]
                case Constant():
                    y = self.values[i].expand(x.shape[0], -1)
                case Affine():
                    y = self._affine(i, [values[j] for j in node.inputs])
                case Elementwise(function=function):
                    y = torch_function(function).value(values[node.inputs[0]])
                case Bilinear(kind="mul"):
                    y = values[node.inputs[0]] * values[node.inputs[1]]
                case Bilinear():
                    left, right = (values[j].reshape(-1, *self.graph.nodes[j].shape) for j in node.inputs)
                    y = (left @ right).reshape(x.shape[0], node.size)
                case Max():
                    y = self._max(i, values[node.inputs[0]])
                case _:
                    raise NotImplementedError(f"no torch evaluation for node type {type(node).__name__}")
            values.append(y)
        return values

    def outputs(self, x: Tensor) -> Tensor:
        """All graph outputs, flat and concatenated [B, n_out]."""
        values = self.evaluate(x)
        return torch.cat([values[i] for i in self.graph.outputs], dim=-1)

    def _affine(self, i: int, inputs: list[Tensor]) -> Tensor:
        terms = [m.apply(x) for m, x in zip(self.maps[i], inputs, strict=True)]
        y = terms[0]
        for t in terms[1:]:
            y = y + t
        bias = self.bias[i]
        return y if bias is None else y + bias

    def _max(self, i: int, x: Tensor) -> Tensor:
        return gather_windows(x, self.windows[i], float("-inf")).amax(dim=-1)


def gather_windows(x: Tensor, windows: Tensor, padding: float) -> Tensor:
    """x[..., windows] with `padding` where a window is -1: [..., out, k]."""
    taken = x[..., windows.clamp(min=0)]
    return torch.where(windows >= 0, taken, torch.full((), padding, dtype=x.dtype, device=x.device))
