"""A mutant as real processes: python -m benchmarks.soundness.mutants.engine NAME [--guards-out] MODEL PROPERTY [options of `soundproof verify`]

What `soundproof verify` runs, with the mutant in every process of its own: the light parent, the worker (which is started by this module
again), and the checker if the mutant is one. Prints the verdict, and the witness; exit codes as of `soundproof verify`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.soundness.mutants.checking import MUTANTS as CHECKERS
from benchmarks.soundness.mutants.edit import Change, applied
from benchmarks.soundness.mutants.registry import ENGINES, changes
from verifier import worker
from verifier.checker import main as checker
from verifier.options import Options
from verifier.watchdog import Failure, supervise

ROOT = str(Path(__file__).resolve().parents[3])
BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from benchmarks.soundness.mutants.engine import main; sys.exit(main())"
CHECK_LIMIT = 4 * 10**9  # bytes of a member of a certificate


def command(*arguments: str) -> list[str]:
    """This module as a process, wherever it is started."""
    return [sys.executable, "-P", "-c", BOOT, ROOT, *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """The parent; or with --as-worker, --as-checker, one of the others."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    mutants = {**ENGINES, **{mutant.name: mutant for mutant in CHECKERS}}
    if not given or given[0] not in mutants:
        print(f"{__doc__}\nNAME is one of {' '.join(mutants)}", file=sys.stderr)
        return 2
    mutant, rest = mutants[given[0]], given[1:]
    out = "--guards-out" in rest
    rest = [word for word in rest if word != "--guards-out"]
    changed = changes(mutant, guards=not out)
    if rest[:1] == ["--as-worker"]:
        with applied(changed):
            return worker.main()
    if rest[:1] == ["--as-checker"]:
        return _check(changed, rest[1:])
    parser = _parser()
    options = parser.parse_args(rest)
    names = [mutant.name, *(["--guards-out"] if out else [])]
    with applied(changed):
        ending = supervise(
            Options(
                options.model, options.property, timeout=options.timeout, nodes=options.nodes, seed=options.seed, threads=options.threads,
                no_attack=options.no_attack, trust=tuple(filter(None, options.trust.split(","))), semantics=options.semantics,
                results_file=options.results_file, json=options.json,
            ),
            lambda text: print(text, file=sys.stderr, flush=True),
            command(*names, "--as-worker"),
            command(*names, "--as-checker") if mutant.name.startswith("checker_") else None,
        )  # fmt: skip
        if isinstance(ending, Failure):
            print(ending.text, file=sys.stderr)
            return ending.exit_code
        sys.stdout.write(ending.to_stdout())
    return ending.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.soundness.mutants.engine NAME")
    parser.add_argument("model")
    parser.add_argument("property")
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-attack", action="store_true")
    parser.add_argument("--trust", default="")
    parser.add_argument("--semantics", default="auto")
    parser.add_argument("--results-file")
    parser.add_argument("--json")
    return parser


def _check(changed: Sequence[Change], arguments: Sequence[str]) -> int:
    """`python -m verifier.checker` with the mutant; ends the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--network", action="append", default=[])
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--timeout", type=float, default=0.0)
    parser.add_argument("--memory", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--diagnose")
    options = parser.parse_args(arguments)
    options.batch, options.arithmetic, options.limit_bytes = None, "float64", CHECK_LIMIT
    with applied(changed):
        checker.main(options, parser)


if __name__ == "__main__":
    sys.exit(main())
