"""If, Loop, Scan and SequenceMap whose course is known at load: the branch that is taken, the iterations one after the other."""

from __future__ import annotations

import numpy as np

from graph.lowering.arithmetic import concat
from graph.lowering.builder import Builder, Held, Items, Known, Tensor, Value, indices
from graph.lowering.operator import Operator

MOST_ITERATIONS = 20_000


def lower_if(op: Operator) -> list[Held]:
    condition = op.known(0)
    if condition.size != 1:
        raise op.malformed(f"a condition of shape {condition.shape}")
    return op.run("then_branch" if bool(condition.reshape(())) else "else_branch", [])


def lower_loop(op: Operator) -> list[Held]:
    """Inputs: the largest number of iterations, whether to start, the carried values. Outputs: these, then all that was collected."""
    carried = list(op.held[2:])
    most = None if op.optional(0) is None else int(op.known(0).reshape(()))
    going = op.optional(1) is None or bool(op.known(1).reshape(()))
    collected: list[list[Value]] = [[] for _ in op.body("body").output[len(carried) + 1 :]]
    k = 0
    while going and (most is None or k < most):
        if k >= MOST_ITERATIONS:
            raise op.refuse(f"more than {MOST_ITERATIONS} iterations are not supported")
        condition, *results = op.run("body", [Known(np.array(k)), Known(np.array(True)), *carried], str(k))
        carried = list(results[: len(carried)])
        for column, value in zip(collected, results[len(carried) :], strict=True):
            column.append(_plain(op, value))
        if not isinstance(condition, Known):
            raise op.refuse("whether there is another iteration depends on the network's input; only a number known at load is supported")
        going, k = bool(condition.value.reshape(())), k + 1
    if any(value is None for value in carried):
        raise op.malformed("a carried value is missing")
    wanted = op.node.output[len(carried) :]
    return [*(value for value in carried if value is not None), *(_stacked(op, c, 0, bool(w)) for c, w in zip(collected, wanted, strict=False))]


def lower_scan(op: Operator) -> list[Held]:
    """The last inputs are read slice by slice, the first ones carried; the last outputs are collected slice by slice."""
    if op.version < 9:
        return _batched_scan(op)
    count = op.integer("num_scan_inputs")
    carried, scanned = list(op.held[: len(op.held) - count]), [op.value(i) for i in range(len(op.inputs) - count, len(op.inputs))]
    if count < 1 or count > len(op.inputs):
        raise op.malformed(f"num_scan_inputs is {count}, and there are {len(op.inputs)} inputs")
    axes = [op.axis(a, len(x.shape)) for a, x in zip(_numbers(op, "scan_input_axes", count), scanned, strict=True)]
    lengths = {x.shape[a] for a, x in zip(axes, scanned, strict=True)}
    if len(lengths) != 1:
        raise op.malformed(f"the scanned inputs have {sorted(lengths)} slices")
    (length,), backwards = lengths, _numbers(op, "scan_input_directions", count)
    collected: list[list[Value]] = [[] for _ in op.body("body").output[len(carried) :]]
    for k in range(length):
        places = [length - 1 - k if backward else k for backward in backwards]
        slices = [_slice(op.builder, x, a, p) for x, a, p in zip(scanned, axes, places, strict=True)]
        results = op.run("body", [*carried, *slices], str(k))
        carried = list(results[: len(carried)])
        for column, value in zip(collected, results[len(carried) :], strict=True):
            column.append(_plain(op, value))
    ordered = [
        column[::-1] if turned else column for column, turned in zip(collected, _numbers(op, "scan_output_directions", len(collected)), strict=True)
    ]
    out_axes = _numbers(op, "scan_output_axes", len(collected))
    wanted = op.node.output[len(carried) :]
    stacks = [_stacked(op, c, a, bool(w)) for c, a, w in zip(ordered, out_axes, wanted, strict=False)]
    return [*(value for value in carried if value is not None), *stacks]


def _batched_scan(op: Operator) -> list[Held]:
    """Scan of opset 8: every input but the first, the lengths, has a batch axis in front, and what is scanned the axis after it."""
    inputs, count = [op.value(i) for i in range(1, len(op.inputs))], op.integer("num_scan_inputs")
    if op.optional(0) is not None or not 0 < count <= len(inputs):
        raise op.refuse("lengths of sequences, or another number of scanned inputs, are not supported")
    backwards, carries = _numbers(op, "directions", count), len(inputs) - count
    sizes = {x.shape[0] for x in inputs} | {0}, {x.shape[1] for x in inputs[carries:]} | {0}
    if any(len(found) != 2 for found in sizes):
        raise op.malformed("batches or sequences of several lengths, or empty ones")
    (batch, length), rows = (max(found) for found in sizes), list[list[Value]]()
    for b in range(batch):
        ones = [_slice(op.builder, x, 0, b) for x in inputs]
        carried, collected = list[Held](ones[:carries]), list[list[Value]]()
        for k in range(length):
            slices = [_slice(op.builder, x, 0, length - 1 - k if back else k) for x, back in zip(ones[carries:], backwards, strict=True)]
            results = op.run("body", [*carried, *slices], f"{b}/{k}")
            carried = results[:carries]
            collected.append([_plain(op, value) for value in results[carries:]])
        rows.append([_plain(op, x) for x in carried] + [stack(op.builder, list(column), 0) for column in zip(*collected, strict=True)])
    return [stack(op.builder, list(column), 0) for column in zip(*rows, strict=True)]


def lower_sequence_map(op: Operator) -> list[Held]:
    """The body on each item of the first sequence, with the item of every other sequence at its place, and all other inputs."""
    collected: list[list[Value]] = [[] for _ in op.body("body").output]
    for k in range(len(op.items(0))):
        inputs = [held.values[k] if isinstance(held, Items) else held for held in op.held]
        for column, value in zip(collected, op.run("body", inputs, str(k)), strict=True):
            column.append(_plain(op, value))
    return [Items(tuple(column)) for column in collected]


def stack(builder: Builder, parts: list[Value], axis: int) -> Value:
    """The tensors, all of one shape, along a new axis."""
    shapes = {part.shape for part in parts}
    if len(shapes) != 1:
        raise ValueError(f"tensors of shapes {sorted(shapes)} cannot be stacked")
    known = [part.value for part in parts if isinstance(part, Known)]
    if len(known) == len(parts):
        return Known(np.stack(known, axis))
    (shape,) = shapes
    place = np.stack([indices(shape) + k * parts[0].size for k in range(len(parts))], axis)
    return builder.gather(concat(builder, parts), place)


def _slice(builder: Builder, x: Value, axis: int, k: int) -> Value:
    place = np.take(indices(x.shape), k, axis)
    return Known(x.value.reshape(-1)[place]) if isinstance(x, Known) else builder.gather(x, place)


def _stacked(op: Operator, parts: list[Value], axis: int, wanted: bool) -> Value:
    """What the iterations collected; the shape of nothing is not known."""
    if not wanted:
        return Known(np.zeros(0))
    if not parts:
        raise op.refuse("an output collected over no iterations has no shape")
    return stack(op.builder, parts, op.axis(axis, len(parts[0].shape) + 1))


def _plain(op: Operator, value: Held) -> Value:
    if not isinstance(value, Tensor | Known):
        raise op.refuse("collecting sequences, or what is -infinity somewhere, is not supported")
    return value


def _numbers(op: Operator, name: str, count: int) -> tuple[int, ...]:
    """An attribute with one number for each, 0 by default."""
    found = op.integers(name) or (0,) * count
    if len(found) != count:
        raise op.malformed(f"attribute {name} has {len(found)} numbers for {count} tensors")
    return found
