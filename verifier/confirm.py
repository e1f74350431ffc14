"""Has a `sat` confirmed by a process that shares nothing with the engine but the files (`verifier.judge`), before it is printed (DESIGN 1).

Only the standard library is imported: the parent process does this, once the worker has ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace

from verifier import beside
from verifier.options import Options
from verifier.result import Counterexample, Reason, Result
from verifier.statement import statement


def judge_command() -> list[str]:
    """`python -I -m verifier.judge`."""
    return beside.module_command("verifier.judge")


def confirmed(options: Options, found: Result, received: Sequence[int], command: Sequence[str] | None = None) -> Result:
    """`found`, a `sat`, as it is if the judge confirms what would be printed; otherwise `unknown`, with the reason."""
    printed = json.dumps({"stdout": found.to_stdout(), "results": found.to_competition()})
    began = time.monotonic()
    files, named = options.files
    whole = [*(command or judge_command()), *map(os.path.abspath, files), *named]
    ended = beside.run(whole, options, received, "the witness was confirmed", stdin=printed)
    peak = max(found.peak_memory_bytes or 0, ended.peak) or None
    found = replace(found, peak_memory_bytes=peak, seconds={**found.seconds, "check": time.monotonic() - began})
    reason = ended.stopped or _refusal(ended, found)
    if reason is None:
        return found
    text = statement("unknown", "none", options.model_names, options.property_path, found.cases, reason)
    return replace(found, verdict="unknown", assurance="none", witness=Counterexample(), reason=reason, statement=text)


def _refusal(ended: beside.Ended, found: Result) -> Reason | None:
    """Nothing, only if exit code and last line say together that the witness is one, and as near to the box as was said."""
    word, _, rest = (ended.out.rstrip("\n").split("\n") or [""])[-1].partition(" ")
    try:
        facts = json.loads(rest)
    except ValueError:
        facts = None
    if isinstance(facts, dict) and (word, ended.exit_code) == ("REFUTED", 5):
        return Reason("not-certified", f"a witness was found that a second program does not confirm: {facts.get('why')}; please report it")
    if not isinstance(facts, dict) or (word, ended.exit_code) != ("CONFIRMED", 0):
        how = f"exit code {ended.exit_code}: {beside.last_line(ended.log)}"
        return Reason("not-certified", f"a witness was found, but the program that confirms it ended without an answer ({how})")
    if facts.get("inside_exact_box") is not found.witness.inside_exact_box:
        return Reason("not-certified", "a witness was found, but a second program disagrees whether it lies in the exact box; please report it")
    return None
