"""The batch runner: every instance of a folder in VNN-COMP's layout, each as a process of its own, scored against the labels.

    python -m benchmarks.vnncomp [DIR] --timeout 60 --out benchmarks/results/dev.csv     run, or continue, a table
    python -m benchmarks.vnncomp [DIR] --out TABLE.csv --confront 5                      attack everything the table calls unsat
    python -m benchmarks.vnncomp [DIR] --only-expected sat --no-attack --timeout 20 --gate    the attack-off gate
    python -m benchmarks.vnncomp [DIR] --unsat-in TABLE.csv --semantics float32 --out FILE    what a table calls unsat, with other options
    python -m benchmarks.vnncomp [DIR] --open-in TABLE.csv --timeout 300 --out FILE      what a table leaves open, with more time
    python -m benchmarks.vnncomp [DIR] --agree TABLE.csv --per-category 3 --timeout 20   a sample agrees with a committed table

DIR defaults to $SOUNDPROOF_VNNCOMP, or ../shared/vnncomp. Exit 0: nothing bad found, 1: a wrong answer, a failed gate or a
counterexample to an `unsat`, 2: usage, 3: unusable data, 20: interrupted (the same command continues).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from benchmarks import score
from benchmarks.harness import Processes, Settings, run_instance
from benchmarks.instances import DataError, Instance, default_folder, digest, read_instances, select
from benchmarks.ledger import Ledger, Record, ResumeRefused, TableUnwritable, current_commit, read_table, side_file
from benchmarks.score import Finding

T = TypeVar("T")


class UsageError(Exception):
    """Options that do not go together. Exit code 2."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="soundproof-batch-") as scratch:
            return _run_mode(options, Path(scratch))
    except (UsageError, ResumeRefused) as error:
        print(f"benchmarks.vnncomp: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"benchmarks.vnncomp: {error}", file=sys.stderr)
        return 3
    except (KeyboardInterrupt, TableUnwritable) as stop:
        print(f"benchmarks.vnncomp: {str(stop) or 'interrupted'}; the same command continues where it stopped", file=sys.stderr)
        return 20
    finally:
        signal.signal(signal.SIGTERM, previous)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vnncomp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", nargs="?", type=Path, default=None, metavar="DIR", help="folder with CATEGORY/instances.csv")
    add("--out", type=Path, metavar="FILE", help="results table, continued if it exists; a temporary one with --gate and --agree")
    add("--categories", metavar="A,B", help="only these categories")
    add("--per-category", type=_positive(int), metavar="N", help="at most N instances of each category, in the file's order")
    add("--only-expected", choices=("sat", "unsat"), help="only instances with this label, or this label and a question mark")
    add("--unsat-in", type=Path, metavar="TABLE", help="only instances that TABLE calls unsat")
    add("--open-in", type=Path, metavar="TABLE", help="only instances that TABLE does not decide")
    add("--timeout", type=_positive(float), metavar="S", help="seconds an instance, instead of the listed limit")
    add("--jobs", type=_positive(int), default=1, metavar="N", help="instances at a time (default 1)")
    add("--threads", type=_positive(int), metavar="M", help="threads an instance (default: the cores, shared among the jobs)")
    add("--memory", type=_positive(float), metavar="GB", help="memory limit an instance")
    add("--no-attack", action="store_true", help="no concrete execution may end a run")
    add("--semantics", choices=("real", "float32"), help="what `unsat` has to speak of (default: the verifier's)")
    add("--trust", metavar="LIST", help="engines whose `unsat` counts without an accepted certificate, as `unchecked`")
    add("--command", metavar="CMD", help="verifier to run (default: this interpreter's `-m soundproof verify`)")
    add("--judge", type=Path, metavar="SCRIPT", help="a further script that replays each witness: SCRIPT MODEL PROPERTY RESULTS_FILE")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--gate", action="store_true", help="fail if an instance expected to be sat is answered unsat (or ends in an error)")
    mode.add_argument("--agree", type=Path, metavar="TABLE", help="rerun a sample of TABLE and fail where it is contradicted or not reached")
    mode.add_argument("--confront", type=_positive(float), metavar="S", help="attack each unsat of --out for S seconds; a hit is fatal")
    return parser


def _positive(kind: Callable[[str], T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        value = kind(text)
        if not 0 < float(value) < float("inf"):  # type: ignore[arg-type]
            raise ValueError(text)
        return value
    read.__name__ = f"positive {kind.__name__}"
    return read


def _run_mode(options: argparse.Namespace, scratch: Path) -> int:
    folder = options.folder or default_folder()
    if options.judge is not None and not options.judge.is_file():
        raise UsageError(f"--judge {options.judge}: there is no such file")
    if options.confront is not None:
        return _confront(options, read_instances(folder), scratch)
    instances = select(_sampled(options, read_instances(folder)), options.categories, options.only_expected, options.per_category)
    if options.gate and not (options.no_attack and options.only_expected == "sat"):
        raise UsageError("--gate goes with --no-attack and --only-expected sat")
    if options.out is None and not (options.gate or options.agree):
        raise UsageError("--out FILE is missing: where the results table goes")
    records = run_batch(instances, _settings(options), options.out or scratch / "results.csv", options.jobs,
                        this_commit_only=bool(options.gate or options.agree))
    return _report(options, records)


def _sampled(options: argparse.Namespace, instances: list[Instance]) -> list[Instance]:
    """With --agree: the instances that the table has; with --unsat-in: those that it calls unsat; with --open-in: those that it does not decide."""
    if options.agree is not None:
        table = read_table(options.agree)
        instances = [i for i in instances if i.key in table]
    if options.unsat_in is not None:
        table = read_table(options.unsat_in)
        instances = [i for i in instances if i.key in table and table[i.key][0] == "unsat"]
    if options.open_in is not None:
        table = read_table(options.open_in)
        instances = [i for i in instances if i.key in table and table[i.key][0] not in ("sat", "unsat")]
    return instances


def _settings(options: argparse.Namespace) -> Settings:
    command = shlex.split(options.command) if options.command else [sys.executable, "-m", "soundproof", "verify"]
    threads = options.threads or max(1, (os.cpu_count() or 1) // options.jobs)
    judge = options.judge.resolve() if options.judge else None
    return Settings(tuple(command), options.timeout, threads, options.no_attack, options.memory, judge, options.semantics, options.trust)


def run_batch(instances: list[Instance], settings: Settings, out: Path, jobs: int, this_commit_only: bool = False) -> list[Record]:
    """Run what `out` does not hold yet; the records of all `instances`, in their order. Rows of other commits may be refused.

    Raises DataError (a file of an instance is missing), ResumeRefused, KeyboardInterrupt (after stopping what runs).
    """
    ledger = Ledger(out, {**_comparable(settings), "jobs": jobs, "instances": len(instances), "instances_sha256": digest(instances)})
    processes, commit = Processes(), current_commit()
    todo = [i for i in instances if i.key not in ledger.done]
    done = len(instances) - len(todo)
    try:
        if this_commit_only and any(r["commit"] != commit for r in ledger.done.values()):
            raise ResumeRefused(f"{out} holds rows of another commit, which show nothing about this one; use another --out")
        tasks = (partial(run_instance, i, settings, out, processes) for i in todo)
        with closing(_in_parallel(tasks, jobs, processes)) as records:
            for record in records:
                ledger.append({**record, "commit": commit})
                done += 1
                _progress(done, len(instances), record)
        return [ledger.done[i.key] for i in instances]
    finally:
        ledger.close()


def _comparable(settings: Settings) -> dict[str, Any]:
    """The settings as JSON, without what differs between machines (this interpreter's path, the judge's folder)."""
    options = dataclasses.asdict(settings)
    options["command"] = ["python" if part == sys.executable else part for part in settings.command]
    options["judge"] = settings.judge and settings.judge.name
    return options


def _in_parallel(tasks: Iterable[Callable[[], T]], jobs: int, processes: Processes) -> Generator[T, None, None]:
    """Results as they come, `jobs` at a time. If anything goes wrong, an interrupt included, every running process is stopped."""
    running: set[Future[T]] = set()
    tasks = iter(tasks)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for task in tasks:
                running.add(pool.submit(task))
                if len(running) >= jobs:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (f.result() for f in finished)
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (f.result() for f in finished)
        except BaseException:
            processes.stop_all()
            raise


def _progress(done: int, total: int, record: dict[str, Any]) -> None:
    note = " WRONG" if score.is_wrong(record) else ""
    error = f" ({record['error']})" if record["error"] else ""
    outcome = f"{record['result']}{error} in {record['run_seconds']:.1f} s{note}"
    print(f"[{done}/{total}] {score.instance_name(record)}: {outcome}", file=sys.stderr, flush=True)


def _report(options: argparse.Namespace, records: list[Record]) -> int:
    Console(width=None if sys.stdout.isatty() else 140).print(score.summary(records))
    found = score.findings(records)
    fatal = [f for f in found if f.kind == "wrong"]
    if options.gate:
        fatal += score.gate(records)
    if options.agree is not None:
        fatal += score.disagreements(records, read_table(options.agree))
    _list_findings([*found, *(f for f in fatal if f.kind != "wrong")])
    if options.gate or options.agree:
        print(f"{'gate' if options.gate else 'agreement'}: {'FAILED' if fatal else 'passed'}, {len(records)} instances")
    return 1 if fatal else 0


def _list_findings(found: list[Finding]) -> None:
    for finding in found:
        print(f"{finding.kind}: {finding.name}: {finding.text}")


def _confront(options: argparse.Namespace, instances: list[Instance], scratch: Path) -> int:
    """Attack each instance of --out that was answered `unsat`; what was tried is written to OUT.confront.jsonl."""
    if options.out is None:
        raise UsageError("--confront needs --out FILE, the table whose unsat answers are attacked")
    table = read_table(options.out)
    known = {i.key for i in instances}
    lost = [key for key, (word, _) in table.items() if word == "unsat" and key not in known]
    if lost:
        raise DataError(f"{options.out}: {' '.join(lost[0])} is not in the folder given, so it cannot be attacked")
    targets = [i for i in instances if table.get(i.key, ("", 0))[0] == "unsat"]
    processes, threads = Processes(), options.threads or max(1, (os.cpu_count() or 1) // options.jobs)
    tasks = (partial(_attack, i, options.confront, threads, scratch, processes) for i in targets)
    bad = []
    with side_file(options.out, "confront.jsonl").open("w", encoding="utf-8") as lines, closing(_in_parallel(tasks, options.jobs, processes)) as done:
        for number, outcome in enumerate(done, 1):
            lines.write(json.dumps(outcome, sort_keys=True) + "\n")
            tried = f"{outcome.get('runs', 0)} runs, best margin {outcome.get('best_margin')}"
            print(f"[{number}/{len(targets)}] {score.instance_name(outcome)}: {tried}", file=sys.stderr, flush=True)
            if outcome.get("hit") or "error" in outcome:
                text = outcome.get("error") or f"COUNTEREXAMPLE to unsat: X = {outcome['witness']}"
                bad.append(Finding("confront", score.instance_name(outcome), text))
    _list_findings(bad)
    print(f"confront: {'FAILED' if bad else 'passed'}, {len(targets)} unsat answers, {options.confront:g} s each")
    return 1 if bad else 0


def _attack(instance: Instance, seconds: float, threads: int, scratch: Path, processes: Processes) -> dict[str, Any]:
    """The JSON line of benchmarks.confront on one instance; `error` where it gave none."""
    model, prop = instance.files()
    out, log = (Path(tempfile.mkstemp(dir=scratch)[1]) for _ in range(2))
    command = [sys.executable, "-m", "benchmarks.confront", str(model), str(prop), "--seconds", f"{seconds:g}", "--threads", str(threads)]
    code, _ = processes.run(command, seconds + 300, out, log)
    named = {"category": instance.category, "network": instance.network, "property": instance.property_path}
    try:
        return {**named, **json.loads(out.read_text(encoding="utf-8"))}
    except ValueError:
        return {**named, "error": f"the attack did not finish (exit {code}): {log.read_text(errors='replace')[-300:]}"}


if __name__ == "__main__":
    sys.exit(main())
