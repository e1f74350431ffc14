"""The sentence that was proven or refuted, for people."""

from __future__ import annotations

import os

from verifier.result import Assurance, Cases, Reason, Verdict

IN_WHAT: dict[str, str] = {
    "real": "over the reals",
    "float32": "for every float32 execution with its sums in any order",
}
HOW_SURE: dict[Assurance, str] = {
    "certified": "the independent checker accepted the certificate",
    "unchecked": "unchecked: no certificate was verified",
    "replayed": "replayed with onnxruntime on the original file",
    "none": "",
}


def statement(
    verdict: Verdict, assurance: Assurance, network: str, prop: str, cases: Cases, reason: Reason | None, semantics: str = "real"
) -> str:
    """One sentence about the networks `network`, as the options call them, and property file `prop` (a path; its base name is shown)."""
    text = os.path.basename(prop)
    if verdict == "sat":
        return f"{network} violates {text}: the witness is an input in the region whose outputs are unsafe ({HOW_SURE[assurance]})."
    if verdict == "unsat" and cases.total == cases.vacuous:
        return f"Nothing was proven about {network}: every one of the {cases.vacuous} cases of {text} has an empty input box."
    if verdict == "unsat":
        count = "its only case" if cases.total == 1 else f"any of its {cases.total} cases"
        return f"{network} satisfies {text}: no input is unsafe in {count}, {IN_WHAT[semantics]} ({HOW_SURE[assurance]})."
    why = reason.text if reason is not None else "no reason is known"
    return f"It is open whether {network} satisfies {text}: {why}."
