"""Run verifiers on benchmarks: each instance a process of its own, in a folder of its own, below a supervisor that holds time and memory.

Each tool has a table in the output folder, NAME.csv, with its side files as `benchmarks.ledger` writes them; the results files (witnesses) and logs
stay in NAME.csv.d. A run that was stopped goes on with the same command. Every `sat` is judged at once, by `witness`, in a process of its own.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest.layout import Question, digest, unpacked
from benchmarks.contest.results import DECIDED
from benchmarks.contest.tools import Call, ContestTool
from benchmarks.contest.witness import Kind
from benchmarks.harness import Processes, in_parallel
from benchmarks.ledger import Ledger, Record, current_commit, side_file
from benchmarks.soundness.adapters.base import Output, Task, killed, last_lines
from benchmarks.soundness.answers import Answer, input_names, read, stdout_verdict
from benchmarks.soundness.private import run_command
from benchmarks.soundness.supervisor import Ending

PREPARE_SECONDS = 600.0  # VNN-COMP's limit
JUDGE_SECONDS = 600.0
# Not `-m`: where the command is given, a folder may be called benchmarks.
ROOT = str(Path(__file__).resolve().parents[2])
JUDGE = f"import sys; sys.path.insert(0, {ROOT!r}); from benchmarks.contest import witness; sys.exit(witness.main(sys.argv[1:]))"
STOPPED = {"time": "timeout", "memory": "error"}


@dataclass(frozen=True)
class Limits:
    """`timeout`: seconds, None for the listed limits. A tool is stopped `grace` seconds after it, and beyond `memory` bytes (None: no limit)."""

    timeout: float | None = None
    grace: float = 10.0
    memory: int | None = None


def run(tool: ContestTool, questions: Sequence[Question], limits: Limits, folder: Path, jobs: int, say: Callable[[str], None]) -> list[Record]:
    """Run what NAME.csv in `folder` does not hold; the records of all `questions`, in order.

    Raises DataError (a file of an instance is missing or broken), ResumeRefused, SupervisorLost, KeyboardInterrupt (after stopping what runs).
    """
    for question in questions:
        question.files()
    out = folder / f"{tool.name}.csv"
    options = {**tool.describe(), "timeout": limits.timeout, "grace": limits.grace, "memory": limits.memory, "jobs": jobs,
               "instances": len(questions), "instances_sha256": digest(questions)}
    ledger, commit, processes = Ledger(out, options), current_commit(), Processes()
    todo = [q for q in questions if q.key not in ledger.done]
    done = len(questions) - len(todo)
    try:
        for record in in_parallel([partial(run_question, tool, q, limits, out, processes) for q in todo], jobs, processes):
            ledger.append({**record, "commit": commit})
            done += 1
            say(f"[{done}/{len(questions)}] {tool.name} {record['name']}: {outcome(record)}")
        return [ledger.done[q.key] for q in questions]
    finally:
        ledger.close()


def run_question(tool: ContestTool, question: Question, limits: Limits, out: Path, processes: Processes) -> Record:
    """One line for NAME.csv.jsonl. Raises DataError, SupervisorLost, KeyboardInterrupt."""
    timeout = question.seconds if limits.timeout is None else limits.timeout
    with tempfile.TemporaryDirectory(prefix="contest-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "log").mkdir()
        networks, prop = question.files()
        files = tuple((n, unpacked(path, folder / "networks" / str(at))) for at, (n, path) in enumerate(networks))
        call = Call(question.category, files, unpacked(prop, folder / "property"), folder / "result.txt", timeout)
        task = Task(folder / "model", call.property_path, call.out, timeout, limits.memory)
        prepared, answer = _prepare(tool, call, task, processes)
        ending, printed = Ending(None, None, 0.0, None), None
        if answer is None:
            ending, output = run_command(tool.command(call), task, timeout + limits.grace, processes)
            if ending.stopped == "interrupted":
                raise KeyboardInterrupt
            answer = _answer(tool, call, ending, output)
            printed = stdout_verdict(output.stdout) if answer.result in DECIDED else None
        kept = _keep(question, folder, out, printed)
    record: Record = {
        "category": question.category, "network": question.network, "property": question.key[2], "name": question.name, "tool": tool.name,
        "label": question.label, "limit": timeout, "result": answer.result, "prepare_seconds": prepared, "run_seconds": ending.seconds,
        "error": answer.error and answer.error.replace(f"{name}/", ""), "exit_code": ending.code, "stopped": ending.stopped,
        "peak_memory_bytes": ending.peak_memory_bytes, "witness": None}  # fmt: skip
    return {**record, "witness": _judge(question, kept, processes)} if answer.result == "sat" else record


def _prepare(tool: ContestTool, call: Call, task: Task, processes: Processes) -> tuple[float, Answer | None]:
    """(seconds, the answer where preparing failed): VNN-COMP skips an instance that a tool does not prepare."""
    command = tool.prepare(call)
    if command is None:
        return 0.0, None
    ending, output = run_command(command, task, PREPARE_SECONDS, processes)
    if ending.stopped == "interrupted":
        raise KeyboardInterrupt
    if ending.code == 0:
        return ending.seconds, None
    why = ending.stopped or f"exit code {ending.code}"
    return ending.seconds, Answer("unknown", error=f"preparing failed ({why}): {last_lines(output.stderr or output.stdout)}")


def _answer(tool: ContestTool, call: Call, ending: Ending, output: Output) -> Answer:
    """What a process answered; one that had to be stopped, or died of a signal, has answered nothing."""
    if ending.stopped is not None:
        return Answer(STOPPED[ending.stopped], error=f"stopped from outside: {ending.stopped}")
    if died := killed(output):
        return Answer("error", error=died)
    text = call.property_path.read_text(encoding="utf-8", errors="replace")
    found = read(output.results, output.stdout if tool.prints else "", input_names(text) or ("X",))
    if found.result == "error":
        return Answer("error", error=f"{found.error or 'it says so'} (exit code {ending.code}): {last_lines(output.stderr)}")
    return found


def _keep(question: Question, folder: Path, out: Path, printed: tuple[str, str] | None) -> Path:
    """Keep the results file, or the answer that was printed instead, and the log; where the results file is then."""
    readable = re.sub(r"[^\w.=-]+", "_", question.name.removeprefix(f"{question.category} "))[:120]
    base = side_file(out, "d") / question.category / f"{readable}-{hashlib.sha256(repr(question.key).encode()).hexdigest()[:8]}"
    base.parent.mkdir(parents=True, exist_ok=True)
    kept = base.with_name(f"{base.name}.result")
    kept.unlink(missing_ok=True)
    if (folder / "result.txt").is_file():
        shutil.copyfile(folder / "result.txt", kept)
    elif printed is not None:
        kept.write_text("\n".join(printed), encoding="utf-8")
    if (folder / "log" / "stderr").is_file():
        shutil.copyfile(folder / "log" / "stderr", base.with_name(f"{base.name}.log"))
    return kept


def _judge(question: Question, results: Path, processes: Processes) -> dict[str, Any]:
    """{"kind", "text"} of the witness of a `sat`."""
    networks, prop = question.files()
    if len(networks) > 1:
        return {"kind": Kind.unsupported.value, "text": "the property is about several networks"}
    out, log = results.with_suffix(".judge"), results.with_suffix(".judge-log")
    command = [sys.executable, "-P", "-c", JUDGE, str(networks[0][1]), str(prop), str(results)]
    code, _ = processes.run(command, JUDGE_SECONDS, out, log)
    kind, _, text = out.read_text(encoding="utf-8", errors="replace").strip().partition(": ")
    errors = log.read_text(encoding="utf-8", errors="replace")
    for file in (out, log):
        file.unlink()
    if code != 0 or kind not in set(Kind):
        return {"kind": Kind.unsupported.value, "text": f"the judge ended with exit code {code}: {last_lines(errors)}"}
    return {"kind": kind, "text": text}


def outcome(record: Record) -> str:
    """A record's result for people."""
    witness = "" if record["witness"] is None else f", witness {record['witness']['kind']}"
    return f"{record['result']}{witness}{' (' + record['error'] + ')' if record['error'] else ''} in {record['run_seconds']:.2f} s"


def say_to_stderr(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


