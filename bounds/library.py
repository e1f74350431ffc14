"""Bounds as a library: what a certified-training loop, a notebook or another verifier imports.

    net = BoundedNetwork(graph.load.load("network.onnx").graph, method="crown", dtype=torch.float64)
    low, high = net.bounds(lower, upper, "hidden")        # [B, size] each, over B boxes [B, n_in]
    margin = net.lower_bound(lower, upper, rows)          # [B, R]: rows [R, n_out] . outputs

Over the reals, and with the rounding of the computation itself accounted for (ARITHMETIC 4 and 5): every x in the box gives
low <= h(x) <= high and rows . y(x) + constant >= margin. What cannot be bounded (an overflow, a function outside its domain)
is infinite, never NaN. Everything is differentiable in the ends of the boxes and in the weights that are replaced.

Interval: Moore 1966. Backward linear bounds: CROWN (Zhang et al. 2018), on general graphs (Xu et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.linear import LinearBounds, State
from bounds.rounding import unit_error
from bounds.torch_graph import TorchGraph
from graph import linear_map as lm
from graph.core import Affine, Constant, Graph

Array = NDArray[Any]
Method = Literal["interval", "crown"]


def parameters(graph: Graph) -> dict[int, Array]:
    """The constants of `graph` that can be replaced by tensors, as id(array) -> array: weights, factors, biases, constants.

    They are those of the simplified graph: a BatchNorm, for example, is a factor and a bias here. An array that several
    maps share occurs once. The ids hold as long as the graph lives.
    """
    found: list[Array] = []
    for _, node in graph:
        if isinstance(node, Constant):
            found.append(node.value)
        if isinstance(node, Affine):
            found += [array for m in node.maps for array in _arrays(m)]
            found += [] if node.bias is None else [node.bias]
    return {id(array): array for array in found}


def _arrays(m: lm.LinearMap) -> list[Array]:
    match m:
        case lm.Dense(weight=weight) | lm.Conv(weight=weight):
            return [weight]
        case lm.Scale(factor=factor):
            return [] if factor is lm.MINUS else [factor]
        case lm.Transposed(inner=inner):
            return _arrays(inner)
        case lm.Composition(maps=maps):
            return [array for part in maps for array in _arrays(part)]
        case lm.Reshape() | lm.Gather() | lm.Sum():
            return []
        case _:
            raise NotImplementedError(f"the constants of a linear map {type(m).__name__} are not listed in bounds/library.py")


class BoundedNetwork:
    """A network whose tensors can be bounded over batches of boxes.

    `method` is "interval" (fast, loose) or "crown" (backward linear bounds of every tensor that feeds a non-linear node).
    `weights` maps keys of `parameters(graph)` to tensors of the same shape that are used in their place; a tensor of this
    dtype and device is held by reference, so an optimiser may update it in place between calls. `memory` is the number of
    bytes that one block of backward coefficients may take. Raises ValueError for an unknown method, dtype or weight.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        method: Method = "crown",
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        weights: Mapping[int, Tensor] | None = None,
        memory: int = 1 << 26,
    ) -> None:
        if method not in ("interval", "crown"):
            raise ValueError(f"unknown method {method!r}; use 'interval' or 'crown'")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"bounds are computed in torch.float32 or torch.float64, not in {dtype}")
        _check_weights(graph, weights or {})
        self.graph = graph
        self.method = method
        self.net = TorchGraph(graph, dtype, device, weights)
        self.linear = LinearBounds(self.net, memory)

    def bounds(self, lower: Tensor | Array, upper: Tensor | Array, tensor: str | int | None = None) -> tuple[Tensor, Tensor]:
        """(low, high), [B, size] each, with low <= h(x) <= high for all x in the box, for every box.

        `lower` and `upper` are [B, ...] and flatten to all graph inputs in their order; they are rounded outwards where this
        dtype needs it. `tensor` is an ONNX tensor name, a node index, or None for the only output. Raises ValueError for
        boxes that do not fit or are empty and for an unknown tensor.
        """
        i = self._node(tensor)
        return self._bounds(self._state(lower, upper, i), i)

    def all_bounds(self, lower: Tensor | Array, upper: Tensor | Array) -> dict[str, tuple[Tensor, Tensor]]:
        """`bounds` of every tensor that the graph has under a name, inputs and outputs included; what leads to them is bounded once."""
        state = self._state(lower, upper, len(self.graph.nodes) - 1)
        found = {i: self._bounds(state, i) for i in sorted(set(self.graph.names.values()))}
        return {name: found[i] for name, i in self.graph.names.items()}

    def _bounds(self, state: State, i: int) -> tuple[Tensor, Tensor]:
        low, high = state.lower[i], state.upper[i]
        if self.method == "crown":
            below, above = self.linear.backward(state, i, torch.arange(low.shape[-1], device=low.device))
            low, high = torch.maximum(_proven(low, -1), below), torch.minimum(_proven(high, 1), above)
        return _proven(low, -1), _proven(high, 1)

    def lower_bound(
        self, lower: Tensor | Array, upper: Tensor | Array, rows: Tensor | Array, constant: Tensor | Array | None = None
    ) -> Tensor:
        """[B, R] with rows . y(x) + constant >= result for all x in the box, y being all outputs, flat and concatenated.

        `rows` is [R, n_out] or [B, R, n_out], `constant` [R] or [B, R]; both may require a gradient. An upper bound is minus
        the lower bound of the negative. Raises ValueError as `bounds` does, and for rows that do not fit.
        """
        matrix = self._tensor(rows)
        matrix = matrix if matrix.ndim == 3 else matrix.unsqueeze(0)
        sizes = [self.graph.nodes[i].size for i in self.graph.outputs]
        if matrix.ndim != 3 or matrix.shape[-1] != sum(sizes):
            raise ValueError(f"rows of shape {tuple(matrix.shape)} for a network with {sum(sizes)} outputs")
        state = self._state(lower, upper, max(self.graph.outputs))
        shift = torch.zeros(1, matrix.shape[1], dtype=self.net.dtype, device=self.net.device) if constant is None else self._tensor(constant)
        if self.method == "interval":
            return _proven(self._interval_bound(state, matrix, shift), -1)
        functional: dict[int, Tensor] = {}
        for i, part in zip(self.graph.outputs, matrix.split(sizes, -1), strict=True):
            functional[i] = functional[i] + part if i in functional else part
        return _proven(self.linear.lower_bound(state, functional, shift).value, -1)

    def _interval_bound(self, state: State, rows: Tensor, constant: Tensor) -> Tensor:
        low, high = (torch.cat([side[i] for i in self.graph.outputs], -1).unsqueeze(1) for side in (state.lower, state.upper))
        largest = torch.maximum(low.abs(), high.abs())
        value = (rows.clamp(min=0) * low + rows.clamp(max=0) * high).sum(-1) + constant
        error = unit_error(rows.shape[-1] + 4, self.net.dtype) * ((rows.abs() * largest).sum(-1) + constant.abs())
        return value - error - torch.finfo(self.net.dtype).tiny

    def _node(self, tensor: str | int | None) -> int:
        if tensor is None:
            if len(self.graph.outputs) != 1:
                raise ValueError(f"the network has {len(self.graph.outputs)} outputs; name one of {', '.join(self.graph.output_names)}")
            return self.graph.outputs[0]
        if isinstance(tensor, str):
            if tensor not in self.graph.names:
                raise ValueError(f"the graph has no tensor {tensor!r} (simplification may have removed it); it has {', '.join(self.graph.names)}")
            return self.graph.names[tensor]
        if not 0 <= tensor < len(self.graph.nodes):
            raise ValueError(f"the graph has {len(self.graph.nodes)} nodes, there is no node {tensor}")
        return tensor

    def _state(self, lower: Tensor | Array, upper: Tensor | Array, last: int) -> State:
        low, high = (x if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x, dtype=np.float64)) for x in (lower, upper))
        low, high = (x.to(self.net.device).reshape(len(x), -1) for x in (low, high))
        if low.shape != high.shape or low.shape[1] != self.net.input_size:
            raise ValueError(f"boxes of shape {tuple(low.shape)} and {tuple(high.shape)} for a network with {self.net.input_size} inputs")
        if not bool((low <= high).all()):
            raise ValueError("a box is empty or not a number: every lower end must be at most its upper end")
        low, high = outward(low, self.net.dtype, -1), outward(high, self.net.dtype, 1)
        return self.linear.propagate(low, high, refine=self.method == "crown", last=last)

    def _tensor(self, x: Tensor | Array) -> Tensor:
        given = x if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x))
        return given.to(dtype=self.net.dtype, device=self.net.device)


def outward(x: Tensor, dtype: torch.dtype, side: int) -> Tensor:
    """`x` in `dtype`, rounded down (side -1) or up (side 1); the gradient passes as if nothing were rounded."""
    near = x.to(dtype)
    fixed = near.detach()
    away = torch.nextafter(fixed, torch.full_like(fixed, side * torch.inf))
    missed = side * fixed.to(torch.float64) < side * x.detach().to(torch.float64)
    return near + torch.where(missed, away - fixed, torch.zeros_like(fixed))


def _proven(bound: Tensor, side: int) -> Tensor:
    """A number that overflowed, or is none, bounds nothing."""
    return torch.where(bound.isfinite(), bound, side * torch.inf)


def _check_weights(graph: Graph, weights: Mapping[int, Tensor]) -> None:
    known = parameters(graph) if weights else {}
    for key, given in weights.items():
        if key not in known:
            raise ValueError(f"no constant of the graph has the key {key}; take the keys from parameters(graph)")
        if tuple(given.shape) != known[key].shape:
            raise ValueError(f"a weight of shape {tuple(given.shape)} in place of one of shape {known[key].shape}")


def crown_bounds(
    graph: Graph, lower: Array, upper: Array, elements: Sequence[Array], *, refine: bool = True, single: bool = False
) -> list[tuple[Array, Array]]:
    """(low, high) [B, count] of some elements of every output (flat indices, one array an output) over boxes [B, n_in], by backward
    linear bounds in float64, or `single` precision; arrays of numpy throughout. Without `refine` hidden tensors keep interval bounds:
    looser, and cheaper."""
    net = BoundedNetwork(graph, method="crown" if refine else "interval", dtype=torch.float32 if single else torch.float64)
    found = []
    with torch.no_grad():
        state = net._state(lower, upper, max(graph.outputs))
        for i, part in zip(graph.outputs, elements, strict=True):
            rows = torch.from_numpy(part)
            low, high = net.linear.backward(state, i, rows)
            low, high = torch.maximum(_proven(state.lower[i][:, rows], -1), low), torch.minimum(_proven(state.upper[i][:, rows], 1), high)
            found.append((_proven(low, -1).double().numpy(), _proven(high, 1).double().numpy()))
    return found
