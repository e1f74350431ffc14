"""`soundproof certify` and `soundproof recheck`: a model, a data set and a policy in, evidence out. The logic is in benchmarks/certify/."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from benchmarks.certify.campaign import Notice
    from benchmarks.certify.policy import Policy
    from benchmarks.certify.run import Report

EXIT_USAGE = 2
QUIET_SECONDS = 10.0
MOST_SHOWN = 20  # things that recheck finds wrong


def _fail(code: int, text: str, command: str = "certify") -> NoReturn:
    print(f"soundproof {command}: {text}", file=sys.stderr)
    raise SystemExit(code)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def certify(
    model: Annotated[Path, typer.Argument(help="ONNX file (.gz allowed).")],
    data: Annotated[Path, typer.Option("--data", metavar="D", help="Samples: .npz, .npy, .csv, .parquet, or a folder of images.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Evidence; the same command continues a stopped run.")] = Path("evidence"),
    labels: Annotated[Path | None, typer.Option(metavar="F.npy", help="Labels, where --data is a .npy file.")] = None,
    policy: Annotated[Path | None, typer.Option(metavar="F.toml", help="What is varied, what must hold, preprocessing, gates.")] = None,
    region: Annotated[list[str] | None, typer.Option(metavar="KIND:R,R", help="A region at these radii, like linf:1/255,2/255.")] = None,
    prop: Annotated[str, typer.Option("--property", metavar="P", help="Of --region: top1, topk:K or targeted:CLASS.")] = "top1",
    radius: Annotated[str | None, typer.Option(metavar="MAX[:STEPS]", help="With --region KIND: find the largest radius by bisection.")] = None,
    preprocess: Annotated[list[str] | None, typer.Option(metavar="K=V", help="Part of the network: scale, mean, std, layout, range.")] = None,
    gate: Annotated[list[str] | None, typer.Option(metavar="G", help='Like "certified_accuracy >= 0.90 at linf 2/255".')] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", help="Only the first N samples.")] = None,
    output: Annotated[str | None, typer.Option(metavar="NAME", help="The output that is judged, where there are several.")] = None,
    semantics: Annotated[str, typer.Option(metavar="float32|real", help="What proofs speak of.")] = "float32",
    timeout: Annotated[float | None, typer.Option(metavar="S", help="Seconds a query [default: 60; with --nodes 600].")] = None,
    nodes: Annotated[int | None, typer.Option(metavar="N", help="Sub-problems a query; makes a run repeatable.")] = None,
    split: Annotated[int, typer.Option(metavar="N", help="Halve what its budget does not decide, up to N times; a half may take as much.")] = 0,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Resident memory a query.")] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", help="Queries at a time [default: all cores].")] = None,
    threads: Annotated[int, typer.Option(metavar="N", help="Threads a query.")] = 1,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of everything random.")] = 0,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Only every N-th sample, beginning with the I-th.")] = "1/1",
    merge: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="Take in what a shard found; may be repeated.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ray[://HOST]", help="Answer queries on a Ray cluster.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show only the result.")] = False,
) -> None:
    """Certify a model on a data set, and write evidence that others can check with `soundproof recheck`.

    Exit code: 0 done and every gate passed, 1 a gate failed, 2 usage, 3 unusable model or data, 4 internal error, 20 stopped (continue with the
    same command).
    """
    from benchmarks.certify.campaign import Budget, cores
    from benchmarks.certify.errors import CertifyError
    from benchmarks.certify.evidence import Sources
    from benchmarks.certify.parts import MOST_DEPTH
    from benchmarks.certify.run import Request
    from benchmarks.certify.run import certify as run

    _check_numbers(timeout=timeout, nodes=nodes, memory=memory, jobs=jobs, threads=threads, samples=samples)
    if not 0 <= seed < 2**63:
        _fail(EXIT_USAGE, f"--seed {seed}: it must be a number from 0 to 2^63 - 1")
    if not 0 <= split <= MOST_DEPTH:
        _fail(EXIT_USAGE, f"--split {split}: it must be a number from 0 to {MOST_DEPTH}")
    if semantics not in ("float32", "real"):
        _fail(EXIT_USAGE, f"--semantics {semantics}: expected float32 or real")
    limit = timeout if timeout is not None else 600.0 if nodes is not None else 60.0
    try:
        asked = _policy(policy, region or [], prop, radius, preprocess or [], gate or [], samples, output)
        request = Request(Sources(model, data, labels, policy), asked, out, Budget(limit, nodes, memory, threads, seed, semantics, split),
                          jobs or cores(), _shard(shard), cluster, tuple(merge or ()))
        with _progress(quiet) as notice:
            report = run(request, notice, (lambda _: None) if quiet else _tell)
    except CertifyError as error:
        _fail(error.exit_code, str(error))
    _print(report, out)
    raise SystemExit(report.exit_code)


def _policy(
    path: Path | None, regions: list[str], prop: str, radius: str | None, preprocess: list[str], gates: list[str], samples: int | None,
    output: str | None,
) -> Policy:
    """The policy of the file, completed from options."""
    from dataclasses import replace

    from benchmarks.certify import policy
    from benchmarks.certify.policy import Policy

    asked = Policy(()) if path is None else policy.read(path)
    asked = policy.prepared(policy.completed(asked, regions, prop, radius), preprocess)
    return replace(asked, gates=(*asked.gates, *gates), most=asked.most if samples is None else samples, output=output or asked.output)


def _check_numbers(command: str = "certify", **given: float | None) -> None:
    for name, value in given.items():
        if value is not None and not (0 if name == "nodes" else 1e-9) <= value < float("inf"):
            _fail(EXIT_USAGE, f"--{name} {value}: it must be a positive number", command)


def _shard(text: str) -> tuple[int, int]:
    number, sign, count = text.partition("/")
    if not (sign and number.isdigit() and count.isdigit()):
        _fail(EXIT_USAGE, f"--shard {text}: expected I/N")
    return int(number), int(count)


@contextmanager
def _progress(quiet: bool) -> Iterator[Notice]:
    """Progress for people: a bar with the time that is left on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    if quiet:
        yield lambda done, total, text: None
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("queries", total=None)
            yield lambda done, total, text: progress.update(task, completed=done, total=total, description=text[-40:])


class _Lines:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        """Tell, if it is time to."""
        now = time.monotonic()
        self._first = done - 1 if self._first is None else self._first
        if now - self._said >= QUIET_SECONDS:
            self._said = now
            each = (now - self._began) / max(done - self._first, 1)
            _tell(f"[{done}/{total}] {text}; about {each * (total - done):.0f} s left")


def _print(report: Report, out: Path) -> None:
    """The tables and gates on standard output."""
    from rich.console import Console

    from benchmarks.certify.tables import reasons, tables

    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables(report.plain):
        console.print(table)
    for line in reasons(report.plain):
        print(line)
    for gate in report.plain["gates"]:
        print(f"{'passed' if gate['passed'] else 'FAILED'}: {gate['text']} ({gate['why']})")
    if report.stopped:
        print(f"PARTIAL: {report.stopped}")
    print(f"evidence in {out}; check it with: soundproof recheck {out}")


def recheck(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Evidence that `soundproof certify` wrote.")],
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds to check one certificate.")] = 600.0,
    memory: Annotated[float, typer.Option(metavar="GB", help="Memory of the checker.")] = 8.0,
    jobs: Annotated[int, typer.Option(metavar="N", help="Checkers at a time.")] = 1,
) -> None:
    """Check evidence from its files alone: compose every query again, compare, check every certificate, replay every witness, count again.

    Exit code 0: all of it holds; 1: something does not (each is named); 2 usage; 3 no evidence that can be read.
    """
    from benchmarks.certify.errors import CertifyError
    from benchmarks.certify.recheck import recheck as run

    _check_numbers("recheck", timeout=timeout, memory=memory, jobs=jobs)
    try:
        found: Any = run(folder, timeout, memory, jobs, _tell)
    except CertifyError as error:
        _fail(error.exit_code, str(error), "recheck")
    for text in found.wrong[:MOST_SHOWN]:
        print(f"WRONG: {text}")
    if len(found.wrong) > MOST_SHOWN:
        print(f"WRONG: and {len(found.wrong) - MOST_SHOWN} more like these")
    whole = f" ({found.divided} queries in parts that cover them)" if found.divided else ""
    print(f"{found.certificates} certificates accepted{whole}, {found.witnesses} witnesses replayed, "
          f"{found.misclassified} misclassified samples run again, {found.undecided} queries undecided: {'; '.join(found.verdict)}")
    raise SystemExit(1 if found.wrong else 0)
