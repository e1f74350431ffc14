"""`soundproof soundness`: build the suite, run a verifier on it, score what it said. The logic is in benchmarks/soundness/."""

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
    from benchmarks.soundness.adapters.base import Adapter, Tool
    from benchmarks.soundness.report import Report
    from benchmarks.soundness.runner import Mode

EXIT_FATAL, EXIT_USAGE, EXIT_DATA, EXIT_STOPPED = 1, 2, 3, 20

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a verifier on instances whose truth is known by construction, and find out whether it lies.",
)

Suite = Annotated[Path, typer.Option("--suite", metavar="DIR", help="Folder of the suite.")]


class Semantics(StrEnum):
    """What `unsat` speaks of."""

    real = "real"
    float32 = "float32"


class Attack(StrEnum):
    """Which runs: with concrete executions, without, or both."""

    on = "on"
    off = "off"
    both = "both"


def _fail(code: int, text: str) -> NoReturn:
    print(f"soundproof soundness: {text}", file=sys.stderr)
    raise SystemExit(code)


def _positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        _fail(EXIT_USAGE, f"--{name} {value}: it must be a positive number")


@app.command()
def build(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder that is written.")],
    seed: Annotated[int, typer.Option(metavar="N", help="Other weights, other places, the same truths.")] = 1,
    family: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this family; may be repeated.")] = None,
) -> None:
    """Build the suite: ONNX and VNN-LIB files, and what is true of them. Exit code 3: a truth could not be confirmed."""
    from benchmarks.soundness import build as builder
    from benchmarks.soundness.instance import SuiteError

    if seed < 0:
        _fail(EXIT_USAGE, f"--seed {seed}: it must be 0 or more")
    try:
        entries = builder.build(out, seed, family)
    except SuiteError as error:
        _fail(EXIT_DATA, str(error))
    except OSError as error:
        _fail(EXIT_USAGE, f"{error.filename or out} cannot be written: {error.strerror or error}")
    print(f"{len(entries)} instances of {len({e.family for e in entries})} families in {out}")


@app.command()
def run(
    suite: Suite,
    results: Annotated[Path, typer.Option("--results", metavar="F.csv", help="Table of answers; the same command continues a stopped run.")],
    verifier: Annotated[str | None, typer.Option(metavar="CMD", help="Command with {onnx} {vnnlib} {timeout} {out}.")] = None,
    attack_off: Annotated[str | None, typer.Option(metavar="CMD", help="The same verifier without attack: every instance is run twice.")] = None,
    adapter: Annotated[str | None, typer.Option(metavar="NAME", help="A verifier that is known: see `soundproof soundness adapters`.")] = None,
    tool: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the adapter's tool is.")] = None,
    tool_python: Annotated[str | None, typer.Option(metavar="PYTHON", help="The Python that runs it.")] = None,
    tool_config: Annotated[Path | None, typer.Option(metavar="FILE", help="Its configuration file.")] = None,
    tool_option: Annotated[list[str] | None, typer.Option(metavar="ARG", help="A further argument for it; may be repeated.")] = None,
    attack: Annotated[Attack, typer.Option(help="With an adapter: run with its attack, without, or both.")] = Attack.on,
    semantics: Annotated[Semantics, typer.Option(help="What the verifier claims its `unsat` speaks of.")] = Semantics.real,
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds an instance.")] = 5.0,
    grace: Annotated[float, typer.Option(metavar="S", help="Seconds after which it is stopped, beyond the limit it was told.")] = 5.0,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Resident memory an instance, with all its processes.")] = None,
    family: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this family; may be repeated.")] = None,
    per_family: Annotated[int | None, typer.Option(metavar="N", help="At most N instances of each family.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", help="Instances at a time.")] = 1,
    vnnlib2: Annotated[bool, typer.Option("--vnnlib2", help="Properties in VNN-LIB 2.0; they declare float32 tensors.")] = False,
) -> None:
    """Run a verifier on the suite. Each instance is a process of its own that sees a model, a property and a limit, and nothing else.

    Exit code 0: every answer is in the table, right or wrong; 2 usage; 3 unusable suite or table; 20 stopped. `soundproof soundness score` judges.
    """
    from benchmarks.soundness.adapters.base import Tool

    for name, value in (("timeout", timeout), ("grace", grace), ("memory", memory), ("per-family", per_family), ("jobs", jobs)):
        _positive(name, value)
    if (verifier is None) == (adapter is None):
        _fail(EXIT_USAGE, "name either --verifier CMD or --adapter NAME")
    known = Tool(tool, tool_python, tool_config, tuple(tool_option or ()))
    modes = _modes(verifier, attack_off, adapter, known, attack)
    memory_bytes = None if memory is None else int(memory * 1e9)
    _run(suite, results, modes, (timeout, grace, memory_bytes), semantics.value, vnnlib2, jobs, tuple(family or ()), per_family)


def _modes(verifier: str | None, attack_off: str | None, adapter: str | None, tool: Tool, attack: Attack) -> list[Mode]:
    from benchmarks.soundness.adapters import adapter as adapter_named
    from benchmarks.soundness.adapters.base import AdapterError
    from benchmarks.soundness.adapters.template import Template
    from benchmarks.soundness.runner import ATTACK_OFF, DEFAULT, Mode

    try:
        if verifier is not None:
            off = [] if attack_off is None else [Mode(ATTACK_OFF, Template(attack_off))]
            return [Mode(DEFAULT, Template(verifier)), *off]
        if attack_off is not None:
            _fail(EXIT_USAGE, "--attack-off goes with --verifier; an adapter has --attack both")
        known: Adapter = adapter_named(adapter or "", tool)
    except AdapterError as error:
        _fail(EXIT_USAGE, str(error))
    wanted = {Attack.on: [DEFAULT], Attack.off: [ATTACK_OFF], Attack.both: [DEFAULT, ATTACK_OFF]}[attack]
    return [Mode(name, known) for name in wanted]


def _run(suite: Path, results: Path, modes: list[Mode], limits: tuple[float, float, int | None], semantics: str, vnnlib2: bool, jobs: int,
         families: tuple[str, ...], per_family: int | None) -> None:
    from benchmarks.instances import DataError
    from benchmarks.ledger import ResumeRefused, TableUnwritable
    from benchmarks.soundness import runner, supervisor
    from benchmarks.soundness.adapters.base import AdapterError
    from benchmarks.soundness.instance import SuiteError, read
    from benchmarks.soundness.private import Limits, SupervisorLost

    if limits[2] is not None and not supervisor.limits_memory():
        _fail(EXIT_USAGE, "--memory: this system does not tell what a process holds")
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        entries = runner.select(read(suite), families, per_family)
        runner.run(entries, modes, runner.Settings(Limits(*limits), semantics, vnnlib2, jobs), results, runner.progress)
    except (AdapterError, ResumeRefused) as error:
        _fail(EXIT_USAGE, str(error))
    except (SuiteError, DataError) as error:
        _fail(EXIT_DATA, str(error))
    except OSError as error:
        _fail(EXIT_STOPPED, f"stopped ({error.filename or 'a file'}: {error.strerror or error}); the same command continues")
    except (KeyboardInterrupt, SupervisorLost, TableUnwritable) as stop:
        _fail(EXIT_STOPPED, f"stopped{f' ({stop})' if str(stop) else ''}; the same command continues")
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(f"{len(entries) * len(modes)} answers in {results}; judge them with: soundproof soundness score {results} --suite {suite}")


@app.command()
def score(
    results: Annotated[Path, typer.Argument(metavar="F.csv", help="Table that `run` wrote.")],
    suite: Suite,
    json: Annotated[Path | None, typer.Option(metavar="F", help="Write the score as JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="F.xml", help="Write it as JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="F.html", help="Write it as a page with every offending counterexample.")] = None,
) -> None:
    """Judge the answers.

    Exit code 0: every answer is there, and no finding is fatal; 1: a false unsat, an invalid witness or a false sat; 2 usage; 3 unusable suite or
    table, or a run that is not finished.
    """
    from benchmarks.instances import DataError
    from benchmarks.soundness.instance import SuiteError, read
    from benchmarks.soundness.report import lines, tables, to_json, to_junit
    from benchmarks.soundness.suite import load_report

    if not results.is_file():
        _fail(EXIT_USAGE, f"there is no table {results}")
    if html is not None:
        _need_jinja()
    try:
        report = load_report(results, read(suite), lambda text: print(text, file=sys.stderr))
    except (SuiteError, DataError) as error:
        _fail(EXIT_DATA, str(error))
    _print(tables(report))
    print("\n".join(lines(report)))
    _write(json, lambda: jsonlib.dumps(to_json(report), indent=1, allow_nan=False) + "\n")
    _write(junit, lambda: to_junit(report))
    _write(html, lambda: _page(report))
    raise SystemExit(EXIT_FATAL if report.fatal else EXIT_DATA if report.missing else 0)


def _print(made: Sequence[object]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in made:
        console.print(table)


def _write(path: Path | None, text: object) -> None:
    if path is None or not callable(text):
        return
    try:
        path.write_text(text(), encoding="utf-8")
    except OSError as error:
        _fail(EXIT_USAGE, f"{path} cannot be written: {error.strerror or error}")


def _need_jinja() -> None:
    from importlib.util import find_spec

    if find_spec("jinja2") is None:
        _fail(EXIT_USAGE, "--html needs jinja2, which is not installed: pip install 'soundproof[report]'")


def _page(report: Report) -> str:
    from benchmarks.soundness.page import to_html

    return to_html(report)


@app.command()
def adapters() -> None:
    """Name the verifiers that `run --adapter` knows, each with what it needs."""
    from inspect import getmodule

    from benchmarks.soundness.adapters import ADAPTERS

    for name, made in ADAPTERS.items():
        about = (getattr(getmodule(made), "__doc__", None) or "").strip().splitlines()
        print(f"{name}: {about[0] if about else ''}")


@app.command()
def install(
    adapter: Annotated[str, typer.Option(metavar="NAME", help="marabou (the wheel of PyPI), or vnncomp (install_tool.sh).")],
    tool: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to (marabou: build/adapters/marabou), or the scripts.")] = None,
    tool_python: Annotated[str | None, typer.Option(metavar="PYTHON", help="The Python its environment is made of.")] = None,
) -> None:
    """Install a tool that an adapter can install. Nothing of it comes into this environment."""
    import subprocess

    from benchmarks.soundness.adapters import adapter as adapter_named
    from benchmarks.soundness.adapters.base import AdapterError, Tool

    try:
        known = adapter_named(adapter, Tool(tool, tool_python))
        if not hasattr(known, "install"):
            raise AdapterError(f"{adapter} cannot be installed from here; give its checkout with --tool")
        commands = known.install()
    except AdapterError as error:
        _fail(EXIT_USAGE, str(error))
    for command in commands:
        print(" ".join(command), file=sys.stderr)
        code = subprocess.run(command, check=False).returncode
        if code:
            _fail(EXIT_FATAL, f"{command[0]} ended with exit code {code}")
