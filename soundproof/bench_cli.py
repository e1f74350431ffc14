"""`soundproof bench`: run verifiers on VNN-COMP's benchmarks, score them, compare them, plot them. The logic is in benchmarks/contest/."""

from __future__ import annotations

import json as jsonlib
import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from benchmarks.contest.results import ToolTable
    from benchmarks.contest.tools import ContestTool

EXIT_FATAL, EXIT_USAGE, EXIT_DATA, EXIT_STOPPED = 1, 2, 3, 20

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run verifiers on VNN-COMP's benchmarks, and score, compare and plot what they said.",
)

Tables = Annotated[list[str], typer.Argument(metavar="[NAME=]F.csv ...", help="results.csv (.gz) of tools; a tool's name is the file's.")]
Category = Annotated[str | None, typer.Option(metavar="NAME", help="Only this benchmark.")]


class Rules(StrEnum):
    """What a witness within VNN-COMP's tolerance is worth: its points, or a penalty."""

    tolerant = "tolerant"
    strict = "strict"


class Kind(StrEnum):
    """A curve for each tool, or a point for each instance of two."""

    cactus = "cactus"
    scatter = "scatter"


class VnnLib(StrEnum):
    """Versions of VNN-LIB."""

    v1 = "1.0"
    v2 = "2.0"


def _fail(code: int, text: str) -> NoReturn:
    print(f"soundproof bench: {text}", file=sys.stderr)
    raise SystemExit(code)


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Benchmarks of any year: with CATEGORY/instances.csv, or one category.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where each tool's table goes; the same command continues a stopped run.")],
    tool: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=CMD", help="A command with {onnx} {vnnlib} {timeout} {out}, perhaps {category} {networks}; may be repeated."),
    ] = None,
    scripts: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="A tool with VNN-COMP's three scripts; may be repeated.")] = None,
    soundproof: Annotated[bool, typer.Option("--soundproof", help="Soundproof too; without --tool and --scripts it is the one that runs.")] = False,
    categories: Annotated[str | None, typer.Option(metavar="A,B", help="Only these benchmarks.")] = None,
    per_category: Annotated[int | None, typer.Option(metavar="N", help="At most N instances of each.")] = None,
    vnnlib: Annotated[VnnLib | None, typer.Option(metavar="1.0|2.0", help="The version, where a benchmark has both.", show_default="1.0")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="S", help="Seconds an instance, instead of the listed limits.")] = None,
    grace: Annotated[float, typer.Option(metavar="S", help="Seconds after which a tool is stopped, beyond its limit.")] = 10.0,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Resident memory an instance, with all its processes.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", help="Instances at a time.")] = 1,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Soundproof's threads.", show_default="the cores, shared")] = None,
) -> None:
    """Run tools, one after the other, on every instance, each as a process of its own, and replay every witness.

    Exit code 0: every answer is in its table; 2 usage; 3 unusable benchmarks; 20 stopped. `soundproof bench score` judges.
    """
    given = {"timeout": timeout, "grace": grace, "memory": memory, "per-category": per_category, "jobs": jobs, "threads": threads}
    for name, value in given.items():
        if value is not None and not 0 < value < float("inf"):
            _fail(EXIT_USAGE, f"--{name} {value}: it must be a positive number")
    tools = _tools(tool or [], scripts or [], soundproof, threads, jobs)
    _run(folder, out, tools, categories, per_category, vnnlib, (timeout, grace, None if memory is None else int(memory * 1e9)), jobs)


def _tools(commands: list[str], scripts: list[str], soundproof: bool, threads: int | None, jobs: int) -> list[ContestTool]:
    from benchmarks.contest.tools import CommandTool, ScriptTool, named, ours
    from benchmarks.soundness.adapters.base import AdapterError
    from benchmarks.soundness.runner import cores

    try:
        tools: list[ContestTool] = [CommandTool(*named(text, "--tool")) for text in commands]
        tools += [ScriptTool(name, Path(where)) for name, where in (named(text, "--scripts") for text in scripts)]
    except AdapterError as error:
        _fail(EXIT_USAGE, str(error))
    if soundproof or not tools:
        tools.append(ours(threads or max(1, cores() // jobs)))
    names = [t.name for t in tools]
    if len(set(names)) < len(names):
        _fail(EXIT_USAGE, f"two tools of one name: {', '.join(names)}")
    return tools


def _run(folder: Path, out: Path, tools: Sequence[ContestTool], categories: str | None, per_category: int | None, vnnlib: VnnLib | None,
         limits: tuple[float | None, float, int | None], jobs: int) -> None:
    from benchmarks.contest import layout, runner
    from benchmarks.instances import DataError
    from benchmarks.ledger import ResumeRefused, TableUnwritable
    from benchmarks.soundness import supervisor
    from benchmarks.soundness.private import SupervisorLost

    if limits[2] is not None and not supervisor.limits_memory():
        _fail(EXIT_USAGE, "--memory: this system does not tell what a process holds")
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        questions = layout.select(layout.read_questions(folder, vnnlib.value if vnnlib else None), categories, per_category)
        for tool in tools:
            runner.run(tool, questions, runner.Limits(*limits), out, jobs, runner.say_to_stderr)
    except ResumeRefused as error:
        _fail(EXIT_USAGE, str(error))
    except DataError as error:
        _fail(EXIT_DATA, str(error))
    except OSError as error:
        _fail(EXIT_USAGE, f"{error.filename or out}: {error.strerror or error}")
    except (KeyboardInterrupt, SupervisorLost, TableUnwritable) as stop:
        _fail(EXIT_STOPPED, f"stopped{f' ({stop})' if str(stop) else ''}; the same command continues")
    finally:
        signal.signal(signal.SIGTERM, previous)
    tables = " ".join(str(out / f"{t.name}.csv") for t in tools)
    print(f"{len(questions)} instances, {len(tools)} tools; score them with: soundproof bench score {tables}")


@app.command()
def score(
    tables: Tables,
    rules: Annotated[Rules, typer.Option(help="What a witness within VNN-COMP's tolerance is worth.")] = Rules.tolerant,
    published: Annotated[Path | None, typer.Option(metavar="F.csv", help="A published table of points to compare with, row by row.")] = None,
    categories: Annotated[str | None, typer.Option(metavar="A,B", help="Only these benchmarks.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="F", help="Write the rows in the published tables' columns.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="F", help="Write rows, totals and findings as JSON.")] = None,
) -> None:
    """Score tools against each other by VNN-COMP's rules: 10 a right answer, -150 a wrong one, the best of a benchmark has 100.

    Exit code 0: no tool has a penalty (with --published: every published row without penalties is the same here); 1 otherwise; 2 usage; 3 bad table.
    """
    from benchmarks.contest import published as theirs
    from benchmarks.contest import report
    from benchmarks.contest.scoring import score as make
    from benchmarks.instances import DataError

    read = _restricted(_read(tables), categories)
    scores = make(read, rules.value)
    _print(report.score_tables(scores))
    _say(report.lines(scores, read))
    _write(csv, report.to_csv(scores))
    _write(json, jsonlib.dumps(report.to_json(scores, rules.value), indent=1, allow_nan=False) + "\n")
    if published is None:
        raise SystemExit(EXIT_FATAL if any(row.penalties for row in scores.rows) else 0)
    try:
        compared = theirs.compare(scores, theirs.read_published(published), read)
    except DataError as error:
        _fail(EXIT_DATA, str(error))
    if categories is not None:
        compared = [c for c in compared if c.published.category in categories.split(",")]
    _say(theirs.lines(compared))
    raise SystemExit(EXIT_FATAL if any(not c.same and not c.published.penalties for c in compared) else 0)


def _restricted(tables: list[ToolTable], categories: str | None) -> list[ToolTable]:
    from benchmarks.contest.results import restrict
    from benchmarks.instances import DataError

    try:
        return tables if categories is None else restrict(tables, [c.strip() for c in categories.split(",") if c.strip()])
    except DataError as error:
        _fail(EXIT_DATA, str(error))


@app.command()
def compare(
    tables: Tables,
    category: Category = None,
    instances: Annotated[bool, typer.Option("--instances", help="Name the instances that only one tool decided.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="F", help="Write it as JSON.")] = None,
) -> None:
    """Put tools beside each other; the first is compared with each of the others. Exit code 1: two tools contradict each other."""
    from benchmarks.contest import compare as comparing
    from benchmarks.contest import report

    read = _restricted(_read(tables), category)
    _print([report.summary_table(comparing.summaries(read))])
    pairs = comparing.pairs(read) if len(read) > 1 else []
    if pairs:
        _print([report.pair_table(pairs)])
    _say(report.pair_lines(pairs, instances))
    _write(json, jsonlib.dumps(comparing.to_json(read), indent=1, allow_nan=False) + "\n")
    raise SystemExit(EXIT_FATAL if any(p.contradictions for p in pairs) else 0)


@app.command()
def plot(
    tables: Tables,
    out: Annotated[Path, typer.Option("--out", metavar="F.svg", help="The picture: .svg, .pdf or .png.")],
    kind: Annotated[Kind, typer.Option(help="A curve for each tool, or a point for each instance of two.")] = Kind.cactus,
    category: Category = None,
) -> None:
    """Draw a cactus plot of all tools, or a scatter plot of two. Exit code 0; 2 usage; 3 unusable tables."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        _fail(EXIT_USAGE, "plots need matplotlib, which is not installed: pip install 'soundproof[report]'")
    if kind is Kind.scatter and len(tables) != 2:
        _fail(EXIT_USAGE, f"a scatter plot is of two tables, and {len(tables)} were given")
    from benchmarks.contest import plot as drawing
    from benchmarks.instances import DataError

    read = _restricted(_read(tables), category)
    try:
        if kind is Kind.cactus:
            drawing.cactus(read, out, category)
        else:
            drawing.scatter(read[0], read[1], out, category)
    except DataError as error:
        _fail(EXIT_DATA, str(error))
    except OSError as error:
        _fail(EXIT_USAGE, f"{out} cannot be written: {error.strerror or error}")


def _read(tables: list[str]) -> list[ToolTable]:
    from benchmarks.contest.results import read_tools
    from benchmarks.instances import DataError

    try:
        return read_tools(tables)
    except DataError as error:
        _fail(EXIT_DATA, str(error))


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)


def _print(made: Sequence[object]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in made:
        console.print(table)


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _fail(EXIT_USAGE, f"{path} cannot be written: {error.strerror or error}")
