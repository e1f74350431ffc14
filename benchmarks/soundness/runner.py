"""Run a verifier on a suite, each instance as a process of its own; what it said is kept, and nothing is judged here.

The table is that of `benchmarks.ledger`: VNN-COMP's columns, with the family as the category (and `FAMILY:attack-off`), and a line of JSON an
instance with the witness. A run that was stopped goes on with the same command, also on a suite that has grown since, and with other
`jobs`; with other options, or where an instance that was run is missing or another one now, it is refused.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Processes, in_parallel
from benchmarks.ledger import Key, Ledger, Record, ResumeRefused, current_commit, record_key
from benchmarks.soundness.adapters.base import Adapter, AdapterError, last_lines
from benchmarks.soundness.answers import VERDICTS, Answer
from benchmarks.soundness.instance import Entry, SuiteError
from benchmarks.soundness.private import Limits, Start, SupervisorLost, Verify, callable_answer, private_task, run_callable, run_command
from benchmarks.soundness.supervisor import Ending

PREPARE_SECONDS = 600.0
DEFAULT, ATTACK_OFF = "default", "attack-off"
STOPPED = {"time": "timeout", "memory": "error", "interrupted": "error"}
TEXTS, NOTES = ("name", "family", "mode", "result", "instance_sha256"), ("malformed", "error")  # of a record: always a text, and a text or null


@dataclass(frozen=True)
class Mode:
    """A way of running the tool: `name` is DEFAULT or ATTACK_OFF."""

    name: str
    adapter: Adapter

    @property
    def attack(self) -> bool:
        return self.name == DEFAULT


@dataclass(frozen=True)
class Settings:
    """How every instance is run. `semantics` is what the verifier claims its answers are about (real or float32)."""

    limits: Limits
    semantics: str = "real"
    vnnlib2: bool = False
    jobs: int = 1


def select(entries: Sequence[Entry], families: Sequence[str], most: int | None) -> list[Entry]:
    """The instances of these families (none named: all), at most `most` of each, spread evenly over its names. Raises SuiteError."""
    known = list(dict.fromkeys(e.family for e in entries))
    unknown = [f for f in families if f not in known]
    if unknown:
        raise SuiteError(f"the suite has no family {unknown[0]}; it has {', '.join(known)}")
    chosen = []
    for family in known:
        members = [e for e in entries if e.family == family and (not families or family in families)]
        if most is not None and len(members) > most:
            members = [members[i * len(members) // most] for i in range(most)]
        chosen += members
    return chosen


def digest(entries: Sequence[Entry]) -> str:
    """One number for what is asked and what is true of it."""
    ordered = sorted(entries, key=lambda e: e.name)
    lines = (f"{e.name} {e.model_sha256} {e.property_sha256} {e.property2_sha256} {e.real} {e.float32}\n" for e in ordered)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def run(entries: Sequence[Entry], modes: Sequence[Mode], settings: Settings, results: Path, say: Callable[[str], None]) -> list[Record]:
    """Run what `results` does not hold yet, in the suite's order; all records.

    Raises ResumeRefused, DataError, AdapterError, KeyboardInterrupt, TableUnwritable, and OSError where an instance cannot be copied.
    An AdapterError (the tool is not where it should be) comes before the first run.
    """
    for mode in modes:
        if entries:
            with private_task(entries[0], settings.limits, mode.attack, settings.semantics, settings.vnnlib2) as task:
                program = mode.adapter.command(task)[0]
                if shutil.which(program) is None:
                    raise AdapterError(f"there is no command {program}, or it cannot be executed")
    processes = Processes()
    one = {m.name: partial(_run_command_mode, mode=m, settings=settings, processes=processes) for m in modes}
    described = {m.name: m.adapter.describe() for m in modes}
    records = partial(in_parallel, jobs=settings.jobs, processes=processes)
    return _fill(entries, one, {**_options(settings), "modes": described}, results, records, say)


def run_calls(entries: Sequence[Entry], verify: Verify, settings: Settings, results: Path, start: Start, say: Callable[[str], None]) -> list[Record]:
    """The same for a Python callable, one instance at a time. Raises the same, but no AdapterError."""
    one = {DEFAULT: partial(_run_callable_mode, verify=verify, settings=settings, start=start)}
    described = {DEFAULT: {"adapter": "callable", "callable": getattr(verify, "__qualname__", type(verify).__qualname__)}}
    return _fill(entries, one, {**_options(settings), "modes": described}, results, lambda tasks: (task() for task in tasks), say)


def _options(settings: Settings) -> dict[str, Any]:
    limits = settings.limits
    return {"timeout": limits.timeout, "grace": limits.grace, "memory": limits.memory, "semantics": settings.semantics, "vnnlib2": settings.vnnlib2,
            "jobs": settings.jobs}


def _fill(entries: Sequence[Entry], one: Mapping[str, Callable[[Entry], Record]], options: dict[str, Any], results: Path,
          in_order: Callable[[Sequence[Callable[[], Record]]], Generator[Record]], say: Callable[[str], None]) -> list[Record]:
    """Have `in_order` work off what the table at `results` does not hold; the table's records of all `entries`."""
    suite = {"instances": len(entries), "suite_sha256": digest(entries)}
    known = {_key(entry, mode): digest([entry]) for mode in one for entry in entries}
    ledger = Ledger(results, {**options, **suite}, may_change=frozenset({*suite, "jobs"}), check=partial(_same_instance, known), fault=fault)
    commit, wanted = current_commit(), [(mode, entry) for mode in one for entry in entries]
    todo = [(mode, entry) for mode, entry in wanted if _key(entry, mode) not in ledger.done]
    done = len(wanted) - len(todo)
    try:
        with closing(in_order([partial(one[mode], entry) for mode, entry in todo])) as records:
            for record in records:
                ledger.append({**record, "commit": commit})
                done += 1
                note = f" ({record['error']})" if record["error"] else ""
                say(f"[{done}/{len(wanted)}] {record['name']} {record['mode']}: {record['result']}{note} in {record['run_seconds']:.2f} s")
        return [ledger.done[_key(entry, mode)] for mode, entry in wanted]
    finally:
        ledger.close()


def _same_instance(known: Mapping[Key, str], record: Record) -> None:
    """Raises ResumeRefused unless the record is of an instance that is asked for now (`known`: their digests), unchanged."""
    key = record_key(record)
    if known.get(key) != record["instance_sha256"]:
        why = "is another instance now" if key in known else "is not asked for now"
        raise ResumeRefused(f"the table holds {record['name']} ({record['mode']}), which {why}; use the suite it was begun with, or other --results")


def fault(record: Record) -> str | None:
    """Why a record of a table was not written by this runner; None where nothing is wrong with it."""
    wrong = [name for name in TEXTS if not isinstance(record.get(name), str)]
    wrong += [name for name in NOTES if not isinstance(record.get(name, 0), str | None)]
    seconds, witness = record.get("run_seconds"), record.get("witness", 0)
    wrong += [] if isinstance(seconds, int | float) and math.isfinite(seconds) else ["run_seconds"]
    wrong += [] if witness is None or (isinstance(witness, list) and all(isinstance(v, str) for v in witness)) else ["witness"]
    if wrong:
        return f"its {wrong[0]} is missing, or damaged"
    family, mode, name = record["family"], record["mode"], record["name"]
    return None if record_key(record) == (category(family, mode), *_files(name)) else f"it is of other files than those of {name} ({family}, {mode})"


def category(family: str, mode: str) -> str:
    """The first column of the table."""
    return family if mode == DEFAULT else f"{family}:{mode}"


def _key(entry: Entry, mode: str) -> Key:
    return category(entry.family, mode), *_files(entry.name)


def _files(name: str) -> tuple[str, str]:
    return f"onnx/{name}.onnx", f"vnnlib/{name}.vnnlib"


def _run_command_mode(entry: Entry, mode: Mode, settings: Settings, processes: Processes) -> Record:
    limits = settings.limits
    with private_task(entry, limits, mode.attack, settings.semantics, settings.vnnlib2) as task:
        preparation = mode.adapter.prepare(task)
        if preparation is not None:
            ending, output = run_command(preparation, task, PREPARE_SECONDS, processes)
            if ending.code != 0:
                why = f"preparing failed ({ending.stopped or f'exit code {ending.code}'}): {last_lines(output.stderr or output.stdout)}"
                return _record(entry, mode.name, ending, Answer("error", error=why))
        ending, output = run_command(mode.adapter.command(task), task, limits.timeout + limits.grace, processes)
        if ending.stopped == "interrupted":
            raise KeyboardInterrupt
        found = _stopped(ending) or mode.adapter.answer(task, output)
        error = found.error and found.error.replace(f"{task.model.parent}/", "")  # the folder's name is another one each time
        return _record(entry, mode.name, ending, replace(found, error=error))


def _run_callable_mode(entry: Entry, verify: Verify, settings: Settings, start: Start) -> Record:
    limits = settings.limits
    with private_task(entry, limits, True, settings.semantics, settings.vnnlib2) as task:
        try:
            ending, output = run_callable(verify, task, limits.timeout + limits.grace, start)
        except SupervisorLost as lost:
            return _record(entry, DEFAULT, Ending(None, None, 0.0, None), Answer("error", error=str(lost)))
        if ending.stopped == "interrupted":
            raise KeyboardInterrupt
        return _record(entry, DEFAULT, ending, _stopped(ending) or callable_answer(output, VERDICTS))


def _stopped(ending: Ending) -> Answer | None:
    """The answer of a process that did not end by itself: whatever it wrote before does not count."""
    if ending.stopped is None:
        return None
    return Answer(STOPPED[ending.stopped], error=f"stopped from outside: {ending.stopped}")


def _record(entry: Entry, mode: str, ending: Ending, found: Answer) -> Record:
    network, prop = _key(entry, mode)[1:]
    return {"category": category(entry.family, mode), "network": network, "property": prop, "name": entry.name, "family": entry.family, "mode": mode,
            "result": found.result, "witness": None if found.witness is None else list(found.witness), "malformed": found.malformed,
            "error": found.error, "exit_code": ending.code, "stopped": ending.stopped, "run_seconds": ending.seconds,
            "peak_memory_bytes": ending.peak_memory_bytes, "instance_sha256": digest([entry])}


def progress(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
