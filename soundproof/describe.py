"""`soundproof inspect`: a loaded network as text."""

from __future__ import annotations

from collections.abc import Iterator

from graph.core import Affine, Bilinear, Elementwise, Input, Node
from graph.load import Model


def describe(model: Model) -> Iterator[str]:
    """One line each for the file, its inputs, outputs and notes, then one per core node: index, shape, what, inputs, origin."""
    yield f"{model.path}  opset {model.opset}  sha256 {model.sha256}"
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            yield f"{kind:<7} {tensor.name}  {tensor.element_type} {list(tensor.shape)}"
    for note in model.notes:
        yield f"note    {note}"
    for index, node in model.graph:
        sources = ", ".join(map(str, node.inputs))
        yield f"{index:>5}  {node.shape!s:<18} {_what(node):<32} ({sources})  {', '.join(node.origin.operators)}"


def _what(node: Node) -> str:
    match node:
        case Input(name=name):
            return f"Input {name}"
        case Affine(maps=maps):
            return f"Affine {' + '.join(type(m).__name__ for m in maps)}"
        case Elementwise(function=function):
            return f"Elementwise {function.name}"
        case Bilinear(kind=kind):
            return f"Bilinear {kind}"
        case _:
            return type(node).__name__
