"""`soundproof inspect`: what is in a file, and what bounding it comes to. The logic is in graph/survey.py and verifier/inspection.py."""

from __future__ import annotations

import atexit
import math
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer

EXIT_USAGE, EXIT_INPUT = 2, 3


def _fail(code: int, text: str) -> NoReturn:
    print(f"soundproof: {text}", file=sys.stderr)
    raise SystemExit(code)


def parse_shapes(given: list[str]) -> dict[str, int]:
    """NAME=N, several times, as sizes by name. Exits with 2 for anything else."""
    shapes = {}
    for text in given:
        name, sign, size = text.rpartition("=")
        if not (name and sign and size.isdecimal() and int(size) > 0):
            _fail(EXIT_USAGE, f"--shape {text}: expected NAME=N with a positive whole number N")
        shapes[name] = int(size)
    return shapes


def specialised(model: str, outputs: list[str], shapes: dict[str, int], path: Path) -> str:
    """Write `model` with these outputs and shapes to `path`. Returns why that is not possible, or ""."""
    from graph.errors import ModelError
    from graph.specialise import specialise

    try:
        path.write_bytes(specialise(Path(model), outputs, shapes))
    except ModelError as error:
        return str(error)
    except OSError as error:
        _fail(EXIT_USAGE, f"{path} cannot be written: {error.strerror or error}")
    return ""


def choices(outputs: list[str], shapes: list[str]) -> str:
    """The options --output and --shape as they are written."""
    return " ".join([*(f"--output {name}" for name in outputs), *(f"--shape {text}" for text in shapes)])


def specialised_for(model: str, outputs: list[str], shapes: list[str], certificate: str | None) -> tuple[str, str, str]:
    """The file for `verify`: beside the certificate, where its readers will look for it, or in a folder that ends with this process; the
    choices; and why it could not be made, or ""."""
    sizes, chosen = parse_shapes(shapes), choices(outputs, shapes)
    if certificate is None:
        folder = tempfile.mkdtemp(prefix="soundproof-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "specialised.onnx"
    else:
        path = Path(f"{certificate}.onnx")
    refusal = specialised(model, outputs, sizes, path)
    if not refusal:
        kept = "" if certificate is None else f"{path}: "
        print(f"the verdict is about {kept}{model} with {chosen}", file=sys.stderr)
    return str(path), chosen, refusal


def inspect(
    model: Annotated[str, typer.Argument(help="ONNX file (.gz allowed).")],
    prop: Annotated[str | None, typer.Option("--property", metavar="F", help="Bound the network over the first box of this VNN-LIB file.")] = None,
    radius: Annotated[float | None, typer.Option(metavar="R", help="Bound the network over the box of this radius around --centre.")] = None,
    centre: Annotated[float, typer.Option(metavar="X", help="With --radius: the value of every input.")] = 0.0,
    output: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Take this tensor for the output; may be repeated.")] = None,
    shape: Annotated[list[str] | None, typer.Option(metavar="NAME=N", help="Give a symbolic dimension its size.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print the core graph for Graphviz.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print the core graph as a Mermaid flow chart.")] = False,
) -> None:
    """Show a network as Soundproof understands it: inputs, outputs, operators (what is not supported, and why), the core graph.

    With --property or --radius also what bounds over a box leave undecided, and estimates of time and memory. Exit code 3 if it cannot be loaded.
    """
    if json + dot + mermaid > 1 or (prop is not None and radius is not None):
        _fail(EXIT_USAGE, "inspect: at most one of --json, --dot and --mermaid, and at most one of --property and --radius")
    if not (0 <= (radius or 0.0) < math.inf and math.isfinite(centre)):
        _fail(EXIT_USAGE, f"--radius {radius} --centre {centre}: they must be finite numbers, and the radius not negative")
    from graph.errors import ModelError
    from specs.errors import PropertyError

    chosen = choices(output or [], shape or [])
    name = f"{model} ({chosen})" if chosen else model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "specialised.onnx" if chosen else Path(model)
        if chosen and (refusal := specialised(model, output or [], parse_shapes(shape or []), path)):
            _fail(EXIT_INPUT, refusal)
        try:
            _inspect(path, model if json else name, prop, radius, centre, json, dot, mermaid)
        except (ModelError, PropertyError) as error:
            _fail(EXIT_INPUT, str(error).replace(str(path), name))


def _inspect(path: Path, model: str, prop: str | None, radius: float | None, centre: float, json: bool, dot: bool, mermaid: bool) -> None:
    from json import dumps

    from graph.survey import survey
    from soundproof import describe

    found = survey(path)
    inspection = None
    if found.model is not None and (prop is not None or radius is not None):
        from verifier import inspection as inspections

        inspection = inspections.over_property(found.model, prop) if prop is not None else inspections.around(found.model, centre, radius or 0.0)
    if json:
        print(dumps(describe.as_json(model, found, inspection), indent=1, allow_nan=False))
    elif found.model is not None and (dot or mermaid):
        for line in (describe.dot if dot else describe.mermaid)(found.model.graph):
            print(line)
    else:
        for line in describe.describe(model, found, inspection):
            print(line)
    if found.model is None:
        _fail(EXIT_INPUT, f"{model}: cannot be loaded, for the reasons above")
