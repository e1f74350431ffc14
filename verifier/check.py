"""Runs the independent checker on a certificate, as a process of its own, and says what its answer means for the verdict (DESIGN 7).

Only the standard library is imported: the parent process does this, once the worker has ended. Nothing but exit code 0 and
a last line that names the certificate, the files and the semantics we asked about is taken for `certified`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from verifier import beside
from verifier.options import Options
from verifier.result import Reason, ReasonCode, Result, sync_and_rename
from verifier.statement import statement

FEW_NODES = 100
REFUSED = 5  # exit code
DOING = "the certificate was checked"


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
    return beside.module_command("verifier.checker")


LATE = Answer("unfinished", "check-unfinished", "no time was left to check the certificate")


def run(
    options: Options, proof: Result, path: str, received: Sequence[int], command: Sequence[str] | None = None,
    diagnosis: str | None = None, make_room: Callable[[int], None] = lambda _: None, needless: Callable[[], bool] = lambda: False,
) -> Answer:
    """Check the certificate at `path` within the limits of `options`; signals that arrive in `received` end the check. What is not
    closed is told in the file `diagnosis`. `make_room` hears again and again how many bytes the checker takes, and `needless` is asked
    as often whether it may stop."""
    found = limits(options, proof.nodes or 0)
    if found is None:
        return LATE
    found += [] if diagnosis is None else ["--diagnose", diagnosis]
    files, named = options.files
    whole = [*(command or checker_command()), *files, path, *named, *found]
    return answer(options, proof, beside.run(whole, options, received, DOING, make_room, needless=needless))


def limits(options: Options, nodes: int) -> list[str] | None:
    """What of the options of a run the checker of a proof of so many nodes gets; None where no time is left."""
    left = options.limit - time.monotonic()
    memory = [] if options.memory is None else ["--memory", str(options.memory)]
    return ["--timeout", f"{left:.3f}", *_cores(options, nodes), *memory] if left > 0 else None


def answer(options: Options, proof: Result, ended: beside.Ended) -> Answer:
    """What a checker that has ended says about this proof."""
    if ended.stopped is not None:
        return Answer("unfinished", ended.stopped.code, ended.stopped.text, peak=ended.peak)
    return replace(_read(ended.out, ended.log, ended.exit_code, proof, _wanted(options, proof)), peak=ended.peak)


def _cores(options: Options, nodes: int) -> list[str]:
    """Many nodes mean small matrices, for which threads wait for each other; processes do not, but would share what memory is allowed."""
    if nodes <= FEW_NODES:
        return ["--threads", str(options.threads)]
    return ["--threads", "1", "--processes", str(options.threads if options.memory is None else 1)]


def _wanted(options: Options, proof: Result) -> str:
    """The semantics that a certificate has to be about: what was asked for, or what the property asks for. (The checker looks, too.)"""
    return proof.semantics if options.semantics == "auto" else options.semantics


def _read(out: str, log: str, code: int, proof: Result, semantics: str) -> Answer:
    """What the checker's last line and its exit code say together."""
    word, _, rest = (out.rstrip("\n").split("\n") or [""])[-1].partition(" ")
    try:
        facts = json.loads(rest)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or (word, code) not in (("ACCEPTED", 0), ("REJECTED", REFUSED), ("MALFORMED", REFUSED)):
        return Answer("unfinished", "check-unfinished", f"the checker ended without an answer (exit code {code}): {beside.last_line(log)}")
    wanted = {
        "certificate": proof.certificate.sha256, "model": proof.models_sha256, "property": proof.property_file.sha256, "semantics": semantics,
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
        told["verdict"], told["assurance"], options.model_names, options.property_path, proof.cases, told["reason"], _wanted(options, proof)
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
