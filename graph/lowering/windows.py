"""The geometry of convolutions and poolings: strides, dilations, pads, auto_pad, ceil_mode."""

from __future__ import annotations

from dataclasses import dataclass

from graph.core import Shape
from graph.lowering.operator import Operator


@dataclass(frozen=True)
class Windows:
    """All per spatial axis; `positions` is the number of windows."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads_begin: Shape
    pads_end: Shape
    positions: Shape

    def reached_end(self, spatial: Shape) -> Shape:
        """`pads_end`, or more where a last window that ceil_mode adds overhangs them."""
        axes = zip(spatial, self.positions, self.strides, self.kernel, self.dilations, self.pads_begin, self.pads_end, strict=True)
        return tuple(max(end, (p - 1) * s + (k - 1) * d + 1 - n - begin) for n, p, s, k, d, begin, end in axes)


def convolution_windows(op: Operator, spatial: Shape, kernel: Shape) -> Windows:
    """The windows of a Conv or pooling over `spatial`, by the formulas of the ONNX standard."""
    rank = len(spatial)
    if (op.integers("kernel_shape") or kernel) != kernel or len(kernel) != rank:
        raise op.malformed(f"kernel_shape {op.integers('kernel_shape')} does not fit the weight or the input")
    strides, dilations = op.integers("strides") or (1,) * rank, op.integers("dilations") or (1,) * rank
    if len(strides) != rank or len(dilations) != rank or min(strides) < 1 or min(dilations) < 1 or min(kernel) < 1:
        raise op.malformed(f"strides {strides}, dilations {dilations} or kernel {kernel} do not fit {rank} spatial axes")
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    begin, end = _pads(op, spatial, strides, reach)
    room = tuple(n + b + e - r for n, b, e, r in zip(spatial, begin, end, reach, strict=True))
    if min(room) < 0:
        raise op.malformed(f"a window of extent {reach} does not fit an input of spatial shape {spatial} with pads {begin} and {end}")
    positions = [r // s + 1 for r, s in zip(room, strides, strict=True)]
    if op.integer("ceil_mode"):
        # a last, partial window counts unless it would start in the right padding
        for i, (r, s) in enumerate(zip(room, strides, strict=True)):
            if r % s and positions[i] * s < spatial[i] + begin[i]:
                positions[i] += 1
    return Windows(kernel, strides, dilations, begin, end, tuple(positions))


def _pads(op: Operator, spatial: Shape, strides: Shape, reach: Shape) -> tuple[Shape, Shape]:
    rank = len(spatial)
    match op.string("auto_pad", "NOTSET"):
        case "NOTSET":
            pads = op.integers("pads") or (0,) * (2 * rank)
            if len(pads) != 2 * rank or min(pads) < 0:
                raise op.malformed(f"pads {pads} do not fit {rank} spatial axes")
            return pads[:rank], pads[rank:]
        case "VALID":
            return (0,) * rank, (0,) * rank
        case "SAME_UPPER" | "SAME_LOWER" as mode:
            total = tuple(max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(spatial, strides, reach, strict=True))
            less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
            return (less, more) if mode == "SAME_UPPER" else (more, less)
        case mode:
            raise op.refuse(f"auto_pad {mode!r} is not supported")


def transposed_pads(op: Operator, spatial: Shape, strides: Shape, full: Shape) -> tuple[Shape, Shape]:
    """What a ConvTranspose cuts off at the begin and end of its output of spatial shape `full`; below 0 at the end: zeros that it adds there.

    Which side gives the odd place where `output_shape` or auto_pad asks for one less differs between versions of the standard, and is refused
    where they do.
    """
    mode, wanted, rank = op.string("auto_pad", "NOTSET"), op.integers("output_shape"), len(spatial)
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = (op.integers("pads") if mode == "NOTSET" else None) or (0,) * (2 * rank)
        if len(pads) != 2 * rank or min(pads) < 0:
            raise op.malformed(f"pads {pads} do not fit {rank} spatial axes")
        return pads[:rank], pads[rank:]
    if mode == "VALID" or (wanted is not None and len(wanted) != rank):
        raise op.refuse(f"output_shape {wanted} with auto_pad {mode!r} is not supported")
    total = [n - w for n, w in zip(full, wanted or (n * s for n, s in zip(spatial, strides, strict=True)), strict=True)]
    if any(t > 0 and t % 2 for t in total) and (op.version < 11 or mode == "NOTSET"):
        raise op.refuse(f"cutting off {total} places with auto_pad {mode!r} is read in several ways; set pads instead")
    begin = tuple(0 if t < 0 else t - t // 2 if mode == "SAME_LOWER" else t // 2 for t in total)
    return begin, tuple(t - b for t, b in zip(total, begin, strict=True))
