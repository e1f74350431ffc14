"""The suite from Python: run a callable on it, and score a table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.instances import DataError
from benchmarks.ledger import joined, read_records, read_table, side_file
from benchmarks.soundness.instance import Entry, SuiteError, read
from benchmarks.soundness.private import Limits, Start, Verify
from benchmarks.soundness.report import Report
from benchmarks.soundness.runner import Settings, digest, fault, run_calls, select
from benchmarks.soundness.scoring import score


def _quiet(_: str) -> None:
    pass


def run_suite(verify: Verify, folder: Path | str, *, results: Path | str | None = None, timeout: float = 5.0, grace: float = 5.0,
              memory_gb: float | None = None, families: Sequence[str] = (), per_family: int | None = None, semantics: str = "real",
              vnnlib2: bool = False, start: Start = "fork", say: Callable[[str], None] = _quiet) -> Report:
    """Run `verify(model_path, property_path, timeout) -> (verdict, witness or None)` on the suite in `folder`, and score it.

    The verdict is "sat", "unsat", "unknown", "timeout" or "error", the witness the flat input as floats. Every call is a process of its own
    (`start`: fork or spawn, see `private.run_callable`), so that a crash or a hang costs one instance. With `results` the table is kept and an
    interrupted run continues. `report.fatal` are the fatal findings. Raises SuiteError, ResumeRefused, DataError, TableUnwritable, OSError.
    """
    entries = select(read(Path(folder)), families, per_family)
    memory = None if memory_gb is None else int(memory_gb * 1e9)
    settings = Settings(Limits(timeout, grace, memory), semantics, vnnlib2)
    with tempfile.TemporaryDirectory(prefix="soundness-") as scratch:
        table = Path(results) if results is not None else Path(scratch) / "results.csv"
        run_calls(entries, verify, settings, table, start, say)
        return load_report(table, entries, say)


def load_report(table: Path, entries: Sequence[Entry], say: Callable[[str], None] = _quiet) -> Report:
    """Score the table of a run. `entries` are the suite's, of which the run may have used some. Raises SuiteError, DataError."""
    options = _options(side_file(table, "meta.json"))
    records = list(joined(table, read_table(table), read_records(table, fault=fault)).values())
    known = {entry.name: entry for entry in entries}
    missing = [r["name"] for r in records if r["name"] not in known]
    if missing:
        raise SuiteError(f"the suite has no instance {missing[0]}; score with the suite that was run")
    other = [r["name"] for r in records if r["instance_sha256"] != digest([known[r["name"]]])]
    if other:
        raise SuiteError(f"{table} was run on another suite ({other[0]}: its files or its truth differ); build that one again, with its seed")
    asked, semantics = options["instances"] * len(options["modes"]), options["semantics"]
    if len(records) < asked:
        say(f"{table} is not finished: {len(records)} of {asked} answers")
    outcomes = tuple(score(entries, records, semantics, say))
    return Report(outcomes, semantics, options["suite_sha256"], options["timeout"], options["modes"], max(0, asked - len(records)))


def _options(meta: Path) -> dict[str, Any]:
    """The options of a soundness run that its table's side file describes. Raises DataError."""
    try:
        options: dict[str, Any] = dict(json.loads(meta.read_text(encoding="utf-8"))["options"])
        kinds = {"instances": int, "semantics": str, "suite_sha256": str, "timeout": float | int, "modes": dict}
        damaged = [name for name, kind in kinds.items() if not isinstance(options[name], kind)]
        if damaged or options["semantics"] not in ("real", "float32"):
            raise ValueError((damaged or ["semantics"])[0])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{meta}: not the description of a soundness run ({error})") from error
    return options
