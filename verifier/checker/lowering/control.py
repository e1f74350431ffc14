"""Sub-graphs whose course is known, run after run, and sequences of known length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.checker.lowering.basic import stack, starts_of
from verifier.checker.lowering.builder import Array, Held, Items, Known, Tensor, Value, indices
from verifier.checker.lowering.operator import Operator

MOST = 20_000  # iterations
SCAN = "body num_scan_inputs scan_input_axes scan_input_directions scan_output_axes scan_output_directions"  # its attributes


def _truth(op: Operator, x: Held | None) -> bool:
    op.require(isinstance(x, Known) and x.value.dtype == np.bool_ and x.size == 1, "a condition that is not known")
    return isinstance(x, Known) and bool(x.value.reshape(()))


def _moved(op: Operator, x: Value, place: Array) -> Value:
    if isinstance(x, Known):
        return Known(x.value.reshape(-1)[place])
    return op.end(op.builder.gather(x, place), "moves", sources=(x.node,), element=x.element)


def _joined(op: Operator, parts: Sequence[Value], place: Array) -> Value:
    """The elements of all parts, one after the other, at `place`."""
    op.require(len({p.value.dtype if isinstance(p, Known) else np.dtype(p.element) for p in parts}) == 1, "tensors of several types, or none")
    known = [p.value.reshape(-1) for p in parts if isinstance(p, Known)]
    if len(known) == len(parts):
        return Known(np.concatenate(known)[place])
    sources = tuple(dict.fromkeys(p.node for p in parts if isinstance(p, Tensor)))
    op.require(all(isinstance(p, Known) or p.element == "float32" for p in parts), "integers that depend on the input")
    return op.end(stack(op.builder, list(parts), place, starts_of(list(parts))), "moves", sources=sources)


def _collected(op: Operator, parts: Sequence[Held], axis: int) -> Value:
    """Along a new axis."""
    values = [part for part in parts if isinstance(part, Tensor | Known)]
    op.require(len(values) == len(parts) > 0 and len({v.shape for v in values}) == 1, "nothing, sequences or several shapes to be collected")
    shape, size = values[0].shape, values[0].size
    return _joined(op, values, np.stack([indices(shape) + k * size for k in range(len(values))], op.axis(axis, len(shape) + 1)))


def if_(op: Operator) -> list[Held]:
    return op.run("then_branch" if _truth(op, op.value(0)) else "else_branch", [])


def loop(op: Operator) -> list[Held]:
    """Of a known number of iterations: carried values, then what is collected."""
    most = MOST + 1 if op.optional(0) is None else int(op.known(0).reshape(()))
    going, carried, rows, k = op.optional(1) is None or _truth(op, op.value(1)), [x for x in op.held[2:] if x is not None], list[list[Held]](), 0
    op.require(len(carried) == len(op.held[2:]), "a carried value is missing")
    while going and k < most:
        op.require(k < MOST, f"more than {MOST} iterations")
        condition, *results = op.run("body", [Known(np.array(k)), Known(np.array(True)), *carried], str(k))
        going, carried, k = _truth(op, condition), results[: len(carried)], k + 1
        rows.append(results[len(carried) :])
    wanted = op.outputs[len(carried) :]
    return [*carried, *(_collected(op, [row[i] for row in rows], 0) if name else Known(np.zeros(1)) for i, name in enumerate(wanted))]


def scan(op: Operator) -> list[Held]:
    """The last inputs slice by slice, the first ones carried."""
    count, inputs = op.integer("num_scan_inputs", 0), [op.value(i) for i in range(len(op.inputs))]
    carried, scanned, rows = list[Held](inputs[:-count]), inputs[-count:], list[list[Held]]()
    op.require(0 < count <= len(inputs), f"{count} scanned inputs")
    axes = [op.axis(a, len(x.shape)) for a, x in zip(_numbers(op, "scan_input_axes", count), scanned, strict=True)]
    steps, backward = {x.shape[a] for a, x in zip(axes, scanned, strict=True)}, _numbers(op, "scan_input_directions", count)
    op.require(len(steps) == 1, f"{steps} slices")
    for k in range(length := steps.pop()):
        parts = zip(scanned, axes, backward, strict=True)
        slices = [_moved(op, x, np.take(indices(x.shape), length - 1 - k if turned else k, a)) for x, a, turned in parts]
        results = op.run("body", [*carried, *slices], str(k))
        rows.append(results[len(carried) :])
        carried = results[: len(carried)]
    return [*carried, *_scanned(op, rows, op.outputs[len(carried) :])]


def _scanned(op: Operator, rows: list[list[Held]], names: Sequence[str]) -> list[Held]:
    axes, turned = (_numbers(op, f"scan_output_{what}", len(rows[0])) for what in ("axes", "directions"))
    ordered = [[row[i] for row in (rows[::-1] if backward else rows)] for i, backward in enumerate(turned)]
    return [_collected(op, ordered[i], axes[i]) if name else Known(np.zeros(1)) for i, name in enumerate(names)]


def _numbers(op: Operator, name: str, count: int) -> tuple[int, ...]:
    found = op.integers(name) or (0,) * count
    op.require(len(found) == count, f"attribute {name}")
    return found


def sequence_map(op: Operator) -> list[Held]:
    """The body on every item of the first sequence, with the items of the others at its place."""
    lists = [x.values for x in op.held if isinstance(x, Items)]
    op.require(len(lists) > 0 and isinstance(op.held[0], Items) and len({len(x) for x in lists}) == 1, "sequences of several lengths, or none")
    rows = list[list[Held]]()
    for k in range(len(lists[0])):
        inputs = [x.values[k] if isinstance(x, Items) else x for x in op.held if x is not None]
        rows.append(op.run("body", inputs, str(k)))
    columns = [tuple(x for row in rows for x in row[i : i + 1] if isinstance(x, Tensor | Known)) for i in range(len(op.outputs))]
    op.require(all(len(column) == len(rows) for column in columns), "sequences of sequences")
    return [Items(column) for column in columns]


def _position(op: Operator, i: int, last: int) -> int:
    found = int(op.known(i).reshape(()))
    op.require(-(last + 1) <= found <= last, f"position {found}")
    return found % (last + 1)


def construct(op: Operator) -> Held:
    return Items(tuple(op.value(i) for i in range(len(op.inputs))))


def empty(op: Operator) -> Held:
    return Items(())


def at(op: Operator) -> Held:
    return op.items(0)[_position(op, 1, len(op.items(0)) - 1)]


def insert(op: Operator) -> Held:
    items = op.items(0)
    k = len(items) if op.optional(2) is None else _position(op, 2, len(items))
    return Items((*items[:k], op.value(1), *items[k:]))


def erase(op: Operator) -> Held:
    items = op.items(0)
    k = _position(op, 1, len(items) - 1) if op.optional(1) is not None else len(items) - 1
    return Items((*items[:k], *items[k + 1 :]))


def length(op: Operator) -> Held:
    return Known(np.array(len(op.items(0))))


def split(op: Operator) -> Held:
    """Into slices of size 1, equal parts (the last may be smaller), or parts of the sizes given."""
    x = op.value(0)
    axis = op.axis(op.integer("axis", 0), len(x.shape))
    n, given = x.shape[axis], op.known_integers(1)
    scalar = given is not None and op.known(1).ndim == 0
    op.require(not scalar or (given or (0,))[0] > 0, "parts of size 0")
    step = (given or (1,))[0] if scalar or given is None else 0
    sizes = [step] * (n // step) + [n % step] * (n % step > 0) if step else list(given or ())
    op.require(sum(sizes) == n and all(size > 0 for size in sizes), f"parts of sizes {sizes}")
    places = np.split(indices(x.shape), np.cumsum(sizes)[:-1], axis)
    drop = given is None and not op.flag("keepdims", 1)
    return Items(tuple(_moved(op, x, place.squeeze(axis) if drop else place) for place in places))


def concatenate(op: Operator) -> Held:
    items = op.items(0)
    if op.flag("new_axis", 0):
        return _collected(op, items, op.integer("axis", 0))
    op.require(len(items) > 0, "an empty sequence")
    axis = op.axis(op.integer("axis", 0), len(items[0].shape))
    parts = zip(items, starts_of(list(items)), strict=True)
    return _joined(op, items, np.concatenate([indices(item.shape) + start for item, start in parts], axis))
