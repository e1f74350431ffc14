"""`soundproof fuzz`: a campaign of generated networks against any verifier, and delta debugging. The logic is in benchmarks/strategies/."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from benchmarks.strategies.asker import Verify

EXIT_FOUND, EXIT_USAGE, EXIT_INPUT = 1, 2, 3
OURS = f"{shlex.quote(sys.executable)} -m soundproof verify {{onnx}} {{vnnlib}} --timeout {{timeout}} --results-file {{out}} --quiet"


def _fail(code: int, text: str) -> NoReturn:
    print(f"soundproof fuzz: {text}", file=sys.stderr)
    raise SystemExit(code)


def fuzz(
    verifier: Annotated[
        str, typer.Option(metavar="CMD", help="Command with {onnx} {vnnlib} {timeout} {out}.", show_default="soundproof verify ...")
    ] = OURS,
    minutes: Annotated[float, typer.Option(metavar="N", help="How long to search.")] = 10.0,
    corpus: Annotated[Path, typer.Option(metavar="DIR", help="Questions, findings and state; the same folder continues a campaign.")] = Path("fuzz"),
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds for each question.")] = 5.0,
    operators: Annotated[str, typer.Option(metavar="LIST", help="Only networks of these operators, separated by commas.")] = "",
    opsets: Annotated[str, typer.Option(metavar="FIRST-LAST", help="Opsets of the networks.")] = "9-22",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of a new campaign.")] = 0,
    minimise: Annotated[tuple[Path, Path] | None, typer.Option(metavar="MODEL PROPERTY", help="Make this failure smaller, instead.")] = None,
    expect: Annotated[str | None, typer.Option(metavar="sat|unsat", help="With --minimise: the truth, which CMD gets wrong.")] = None,
    witness: Annotated[Path | None, typer.Option(metavar="F", help="With --expect sat: a results file, or a planted point of the suite.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="With --minimise: where the small failure is written.")] = Path("minimal"),
) -> None:
    """Ask a verifier about generated networks whose answers are known, or must agree; keep what it gets wrong, shrunk, in DIR/findings.

    Exit code 0: nothing new was found. 1: something was. With --minimise, 1: the failure was reproduced and made smaller; 0: it was not reproduced.
    """
    if not (0 < minutes < float("inf") and 0 < timeout < float("inf")):
        _fail(EXIT_USAGE, "--minutes and --timeout must be positive numbers")
    from benchmarks.strategies.command import CommandError, command

    try:
        verify = command(verifier)
        if minimise is not None:
            _minimise(verify, minimise, expect, witness, out, timeout, minutes * 60)
        _campaign(verify, corpus, minutes * 60, timeout, operators, opsets, seed)
    except CommandError as error:
        _fail(EXIT_USAGE, f"--verifier: {error}")
    except OSError as error:
        _fail(EXIT_USAGE, f"{error.filename or 'a file'}: {error.strerror or error}")


def _campaign(verify: Verify, corpus: Path, seconds: float, timeout: float, operators: str, opsets: str, seed: int) -> NoReturn:
    from benchmarks.strategies import OPERATORS, OPSETS
    from benchmarks.strategies.campaign import Campaign, CorpusError

    chosen = tuple(name.strip() for name in operators.split(",") if name.strip()) or OPERATORS
    unknown = [name for name in chosen if name not in OPERATORS]
    if unknown:
        _fail(EXIT_USAGE, f"no operator {unknown[0]!r}; there are {', '.join(OPERATORS)}")
    ends = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", opsets, re.ASCII)
    if ends is None:
        _fail(EXIT_USAGE, f"--opsets {opsets}: FIRST-LAST, like 9-17")
    wanted = tuple(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    if not wanted or not set(wanted) <= set(OPSETS):
        _fail(EXIT_USAGE, f"--opsets {opsets}: FIRST-LAST within {OPSETS[0]}-{OPSETS[-1]}")
    campaign = Campaign(verify, corpus, timeout, seed, chosen, wanted, True, lambda text: print(text, file=sys.stderr, flush=True))
    try:
        new = campaign.run(seconds)
    except CorpusError as error:
        _fail(EXIT_INPUT, str(error))
    counts = ", ".join(f"{n} {verdict}" for verdict, n in campaign.verdicts.most_common())
    print(f"{campaign.rounds} rounds, {sum(campaign.verdicts.values())} questions ({counts}), {len(campaign.found)} different findings")
    for path in new:
        print(path)
    raise SystemExit(EXIT_FOUND if new else 0)


def _minimise(
    verify: Verify, files: tuple[Path, Path], expect: str | None, witness: Path | None, out: Path, timeout: float, seconds: float
) -> NoReturn:
    from benchmarks.formula import FormulaError
    from benchmarks.strategies.asker import Asker
    from benchmarks.strategies.files import FileError, read_model, read_point, read_text
    from benchmarks.strategies.findings import small, write
    from benchmarks.strategies.minimise import NotReproduced, minimise

    if expect not in ("sat", "unsat"):
        _fail(EXIT_USAGE, "--minimise needs --expect sat or --expect unsat: the truth")
    try:
        model, text = read_model(files[0]), read_text(files[1])
        point = None if witness is None else read_point(witness)
        asker = Asker(verify, timeout, files=True)
        found = minimise(model, text, asker, expect, point, seconds, lambda line: print(line, file=sys.stderr, flush=True))
    except NotReproduced as error:
        print(f"not reproduced: {error}")
        raise SystemExit(0) from None
    except (FileError, FormulaError, ValueError) as error:
        _fail(EXIT_INPUT, str(error))
    path = write(small(found.instance, found.answer, expect, found.problem.centre), out)
    print(f"{path}: nodes, numbers, varying inputs and atoms were {found.before}, are {found.problem.size}, after {len(found.edits)} edits")
    raise SystemExit(EXIT_FOUND)
