"""`soundproof inspect`: a file, a loaded network and what bounding it comes to, as text, JSON, dot or Mermaid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from graph.core import Affine, Bilinear, Elementwise, Graph, Input, Node
from graph.survey import Survey, Use
from verifier.inspection import Inspection

REASONS = 3  # shown per operator


def describe(path: str, survey: Survey, inspection: Inspection | None) -> Iterator[str]:
    """Text for people: the file, its operators, and if it loads the core graph and what bounds over a box are like."""
    model = survey.model
    opsets = ", ".join(f"{domain or 'onnx'} {version}" for domain, version in survey.opsets.items())
    yield f"{path}  {survey.producer or 'unknown producer'}  opsets {opsets}" + (f"  sha256 {model.sha256}" if model else "")
    yield from (f"input   {declared}" for declared in survey.inputs)
    yield from (f"output  {declared}" for declared in survey.outputs)
    yield f"{survey.parameters:,} parameters, {sum(use.nodes for use in survey.operators)} nodes"
    for use in survey.operators:
        yield f"{use.nodes:>6}  {use.operator:<28} {use.verdict}"
        yield from (f"        {reason}" for _, reason in use.refused[:REASONS])
        if len(use.refused) > REASONS:
            yield f"        and {len(use.refused) - REASONS} more"
    if survey.problem:
        yield f"cannot be loaded: {survey.problem}"
    if model is None:
        return
    yield from (f"note    {note}" for note in model.notes)
    kinds = Counter(type(node).__name__ for _, node in model.graph)
    yield "core graph: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    for index, node in model.graph:
        sources = ", ".join(map(str, node.inputs))
        yield f"{index:>5}  {node.shape!s:<18} {what(node):<32} ({sources})  {', '.join(node.origin.operators)}"
    if inspection is not None:
        yield from _bounds(inspection)


def _bounds(inspection: Inspection) -> Iterator[str]:
    yield f"over {inspection.box}: elements that bounds leave undecided"
    yield f"{'node':>5}  {'kind':<20} {'elements':>9} {'interval':>9} {'linear':>9}  tensor"
    for row in inspection.undecided:
        linear = "-" if row.by_linear is None else str(row.by_linear)
        yield f"{row.node:>5}  {row.kind:<20} {row.elements:>9} {row.by_interval:>9} {linear:>9}  {row.tensor}"
    together = [sum(row.elements for row in inspection.undecided), sum(row.by_interval for row in inspection.undecided)]
    known = [row.by_linear for row in inspection.undecided if row.by_linear is not None]
    yield f"       {'together':<20} {together[0]:>9} {together[1]:>9} {sum(known) if len(known) == len(inspection.undecided) else '-':>9}"
    yield "estimates for one box (memory without that of Python and its libraries, time at the speed of this machine now)"
    for cost in inspection.costs:
        yield f"       {cost.method:<26} {cost.bytes / 1e6:>10.1f} MB {cost.seconds:>10.3g} s"


def as_json(path: str, survey: Survey, inspection: Inspection | None) -> dict[str, Any]:
    """The same as JSON values."""
    model = survey.model
    facts: dict[str, Any] = {
        "schema": 1, "path": path, "producer": survey.producer, "opsets": dict(survey.opsets), "parameters": survey.parameters,
        "declared": {"inputs": list(survey.inputs), "outputs": list(survey.outputs)},
        "operators": [_use(use) for use in survey.operators],
        "problem": survey.problem or None, "loads": model is not None, "sha256": None, "inputs": None, "outputs": None, "notes": None, "nodes": None,
        "bounds": None if inspection is None else asdict(inspection),
    }
    if model is not None:
        facts["sha256"], facts["notes"] = model.sha256, list(model.notes)
        facts["inputs"], facts["outputs"] = ([{**asdict(t), "shape": list(t.shape)} for t in tensors] for tensors in (model.inputs, model.outputs))
        facts["nodes"] = [
            {"index": i, "type": what(node), "shape": list(node.shape), "inputs": list(node.inputs), "operators": list(node.origin.operators)}
            for i, node in model.graph
        ]
    return facts


def _use(use: Use) -> dict[str, Any]:
    refused = [{"node": node, "reason": reason} for node, reason in use.refused]
    return {"operator": use.operator, "verdict": use.verdict, "nodes": use.nodes, "refused": refused, "unexamined": use.unexamined}


def dot(graph: Graph) -> Iterator[str]:
    """The core graph in Graphviz' language."""
    yield "digraph network {"
    yield "  node [shape=box, fontname=monospace];"
    for i, node in graph:
        yield f'  n{i} [label="{_label(i, node, chr(92) + "n")}"{", peripheries=2" if i in graph.outputs else ""}];'
        yield from (f"  n{j} -> n{i};" for j in node.inputs)
    yield "}"


def mermaid(graph: Graph) -> Iterator[str]:
    """The core graph as a Mermaid flow chart."""
    yield "flowchart TD"
    for i, node in graph:
        yield f'  n{i}["{_label(i, node, "<br>")}"]'
        yield from (f"  n{j} --> n{i}" for j in node.inputs)


def _label(i: int, node: Node, newline: str) -> str:
    parts = (f"{i} {what(node)}", "x".join(map(str, node.shape)) or "scalar", ", ".join(node.origin.operators))
    return newline.join(part.replace("\\", "/").replace('"', "'") for part in parts if part)


def what(node: Node) -> str:
    """A core node in a few words."""
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
