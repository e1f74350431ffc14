"""Runs the independent checker on a certificate, as a process of its own, and says what its answer means for the verdict (DESIGN 7).

Only the standard library is imported: the parent process does this, once the worker has ended. Nothing but exit code 0 and
a last line that names the certificate, the files and the semantics we asked about is taken for `certified`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from verifier.memory import memory_of
from verifier.options import Options
from verifier.result import Reason, ReasonCode, Result, sync_and_rename
from verifier.statement import statement

POLL_SECONDS = 0.05
FEW_NODES = 100
_BOOT = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('verifier.checker', run_name='__main__', alter_sys=True)"


@dataclass(frozen=True)
class Answer:
    """How a check ended. `outcome`: "accepted", "rejected", "malformed" or "unfinished". `code`, `text`: why it was not accepted.
    `partial`: what was refused are single leaves, and all of them are in the diagnosis."""

    outcome: str
    code: ReasonCode = "certificate-rejected"
    text: str = ""
    peak: int = 0
    partial: bool = False


def checker_command() -> list[str]:
    """`python -I -m verifier.checker`, from the folder that this file is in, also where the package is not installed."""
    return [sys.executable, "-I", "-c", _BOOT, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]


def run(
    options: Options, proof: Result, path: str, received: Sequence[int], command: Sequence[str] | None = None,
    diagnosis: str | None = None, make_room: Callable[[int], None] = lambda _: None,
) -> Answer:
    """Check the certificate at `path` within the limits of `options`; signals that arrive in `received` end the check. What is not
    closed is told in the file `diagnosis`. `make_room` hears again and again how many bytes the checker takes."""
    left = options.limit - time.monotonic()
    if left <= 0:
        return Answer("unfinished", "check-unfinished", "no time was left to check the certificate")
    threads = options.threads if (proof.nodes or 0) <= FEW_NODES else 1  # many nodes mean small matrices, for which threads wait for each other
    limits = ["--timeout", f"{left:.3f}", "--threads", str(threads), *([] if options.memory is None else ["--memory", str(options.memory)])]
    limits += [] if diagnosis is None else ["--diagnose", diagnosis]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as log:
        checker = subprocess.Popen(
            [*(command or checker_command()), options.model_path, options.property_path, path, *limits],
            stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True,
        )
        peak, stopped = 0, None
        try:
            while checker.poll() is None and stopped is None:
                memory = memory_of(checker.pid)
                peak = max(peak, 0 if memory is None else memory.peak)
                make_room(0 if memory is None else memory.resident)
                stopped = _stopped(options, received, 0 if memory is None else memory.resident)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    checker.wait(min(POLL_SECONDS, max(0.0, options.limit - time.monotonic())))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(checker.pid, signal.SIGKILL)
            checker.wait()
        if stopped is not None and checker.returncode < 0:
            return replace(stopped, peak=peak)
        out.seek(0)
        log.seek(0)
        return replace(_read(out.read(), log.read(), checker.returncode, proof, _wanted(options, proof)), peak=peak)


def _wanted(options: Options, proof: Result) -> str:
    """The semantics that a certificate has to be about: what was asked for, or what the property asks for. (The checker looks, too.)"""
    return proof.semantics if options.semantics == "auto" else options.semantics


def _stopped(options: Options, received: Sequence[int], resident: int) -> Answer | None:
    """Why the check has to end now, if it has to."""
    if time.monotonic() >= options.limit:
        return Answer("unfinished", "check-unfinished", f"the limit of {options.timeout:g} s was reached while the certificate was checked")
    if received:
        return Answer("unfinished", "interrupted", f"interrupted by {signal.Signals(received[0]).name} while the certificate was checked")
    if options.memory is not None and resident > options.memory * 1e9:
        return Answer("unfinished", "memory", f"the memory limit of {options.memory:g} GB was reached while the certificate was checked")
    return None


def _read(out: str, log: str, code: int, proof: Result, semantics: str) -> Answer:
    """What the checker's last line and its exit code say together."""
    word, _, rest = (out.rstrip("\n").split("\n") or [""])[-1].partition(" ")
    try:
        facts = json.loads(rest)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or (word, code) not in (("ACCEPTED", 0), ("REJECTED", 5), ("MALFORMED", 5)):
        last = ([line for line in log.splitlines() if line.strip()] or ["(it left no message)"])[-1]
        return Answer("unfinished", "check-unfinished", f"the checker ended without an answer (exit code {code}): {last}")
    wanted = {
        "certificate": proof.certificate.sha256, "model": proof.models[0].sha256, "property": proof.property_file.sha256, "semantics": semantics,
    }
    if word == "ACCEPTED":
        same = facts == wanted and None not in wanted.values()
        return Answer("accepted") if same else Answer("rejected", text="the checker accepted something else than what it was given")
    rule, place = str(facts.get("rule")), str(facts.get("place"))
    why = f"the checker says {word} ({rule}, {place})"
    if word == "REJECTED" and rule in ("time", "memory"):
        return Answer("unfinished", "check-unfinished" if rule == "time" else "memory", why)
    code_of: ReasonCode = "unsupported-in-checker" if rule.startswith("unsupported") else "certificate-rejected"
    return Answer(word.lower(), code_of, why, partial=word == "REJECTED" and rule in ("open", "leaf", "threshold"))


def judged(options: Options, proof: Result, path: str, answer: Answer, seconds: float) -> Result:
    """The result of a run whose engine found a proof: what the checker says counts. May raise OSError (moving the certificate)."""
    accepted = answer.outcome == "accepted"
    if accepted:
        path = _delivered(path, options.certificate)
    facts = replace(proof.certificate, path=path or None, outcome=answer.outcome, seconds=seconds)
    reason = None if accepted else Reason(answer.code, answer.text)
    trusted = not accepted and "engine" in options.trust and proof.semantics != "float32"  # the engine reasons over the reals
    told: dict[str, Any] = {"verdict": "unsat", "assurance": "certified" if accepted else "unchecked", "reason": None}
    if not accepted and not trusted:
        told = {"verdict": "unknown", "assurance": "none", "reason": reason}
    told["statement"] = statement(
        told["verdict"], told["assurance"], options.model_path, options.property_path, proof.cases, told["reason"], _wanted(options, proof)
    )
    peak = max(proof.peak_memory_bytes or 0, answer.peak) or None
    return replace(proof, certificate=facts, peak_memory_bytes=peak, seconds={**proof.seconds, "check": seconds}, **told)


def _delivered(path: str, wanted: str | None) -> str:
    """Move an accepted certificate to where it is wanted, or delete it; returns where it is now, or nothing."""
    if not path:  # it could not be moved, and stays where it is
        return wanted or ""
    if wanted is None:
        os.unlink(path)
        return ""
    part = wanted + ".part"
    shutil.copyfile(path, part)
    sync_and_rename(part, wanted)
    os.unlink(path)
    return wanted
