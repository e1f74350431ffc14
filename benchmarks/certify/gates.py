"""Gates: sentences of a policy that have to be true of the results.

    accuracy >= 0.95                               the network is right about so many samples, as they are
    certified_accuracy >= 0.90 at linf 2/255       so many are right and certified, by the check of this name, at this radius
    no falsified sample within 0.01 [at linf]      no counterexample at any radius up to this one
    no unknown sample [at linf 2/255]              every query was decided
    all certified [at NAME [RADIUS]]               every query was certified
    monotone in feature 3                          every monotonicity query about this feature was certified
    fair in feature sex                            every fairness query about this feature was certified
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.certify import exact
from benchmarks.certify.errors import UsageError
from benchmarks.certify.policy import Check, Policy

COMPARISONS: dict[str, Callable[[Fraction, Fraction], bool]] = {">=": operator.ge, ">": operator.gt}
AT = r"(?: at (?P<check>[\w.-]+)(?: (?P<radius>[\d./e+-]+))?)?"
FORMS = {
    "accuracy": r"accuracy (?P<sign>>=?) (?P<limit>[\d./]+)",
    "certified_accuracy": r"certified_accuracy (?P<sign>>=?) (?P<limit>[\d./]+)" + AT,
    "no falsified": r"no falsified sample(?: within (?P<within>[\d./e+-]+))?" + AT,
    "no unknown": r"no unknown sample" + AT,
    "all certified": r"all certified" + AT,
    "monotone": r"monotone in feature (?P<feature>.+)",
    "fair": r"fair in feature (?P<feature>.+)",
}


@dataclass(frozen=True)
class Answered:
    """One query (or misclassified sample) as gates see it: outcome certified, falsified, unknown, misclassified or open."""

    check: str
    radius: Fraction | None
    sample: int
    outcome: str


@dataclass(frozen=True)
class Gate:
    """A gate that was read. `form` is one of FORMS."""

    text: str
    form: str
    checks: tuple[str, ...]
    sign: str = ">="
    limit: Fraction = Fraction(0)
    radius: Fraction | None = None


@dataclass(frozen=True)
class Judged:
    """Whether a gate was passed, and the sentence why."""

    text: str
    passed: bool
    why: str


def read(text: str, policy: Policy) -> Gate:
    """The gate that `text` states. Raises UsageError where it states none, or speaks of what the policy does not check."""
    for form, pattern in FORMS.items():
        match = re.fullmatch(pattern, text.strip())
        if match is None:
            continue
        said = match.groupdict()
        where = f"gate {text!r}"
        checks = _checks(form, said, policy, where)
        radius = None if said.get("radius") is None else exact.number(said["radius"], where)
        within = None if said.get("within") is None else exact.number(said["within"], where)
        if radius is not None and not any(radius in check.radii and not check.bisect for check in checks):
            raise UsageError(f"{where}: no check {said['check']} at the radius {said['radius']}")
        if form == "certified_accuracy" and radius is None and any(check.bisect or len(check.radii) > 1 for check in checks):
            raise UsageError(f"{where}: say at which radius: ... at {checks[0].name} RADIUS")
        limit = exact.number(said["limit"], where) if said.get("limit") else Fraction(0)
        return Gate(text, form, tuple(c.name for c in checks), said.get("sign") or ">=", limit, radius if within is None else within)
    raise UsageError(f"gate {text!r}: not understood; the forms are {'; '.join(_shown(p) for p in FORMS.values())}")


def _shown(pattern: str) -> str:
    plain = pattern.replace(AT, " [at NAME RADIUS]").replace("(?: within (?P<within>[\\d./e+-]+))?", " [within R]")
    return re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda m: m.group(1).upper(), plain)


def _checks(form: str, said: dict[str, str | None], policy: Policy, where: str) -> Sequence[Check]:
    if form in ("monotone", "fair"):
        prop = "monotone" if form == "monotone" else "fairness"
        chosen = [c for c in policy.checks if c.property == prop and str(c.settings.get("feature")) == said["feature"]]
    elif said.get("check") is not None:
        chosen = [c for c in policy.checks if c.name == said["check"]] or [c for c in policy.checks if c.region == said["check"] and not c.bisect]
    else:
        chosen = list(policy.checks)
    if not chosen:
        raise UsageError(f"{where}: no such check; the policy has {', '.join(c.name for c in policy.checks) or 'none'}")
    return chosen


def judge(gate: Gate, answered: Sequence[Answered], accuracy: Fraction | None) -> Judged:
    """Whether the gate is passed. What is not decided counts as not certified, and passes no gate that asks for a proof."""
    here = [a for a in answered if a.check in gate.checks]
    if gate.form == "accuracy":
        passed = accuracy is not None and COMPARISONS[gate.sign](accuracy, gate.limit)
        return Judged(gate.text, passed, f"the accuracy is {'not known' if accuracy is None else f'{float(accuracy):.4f}'}")
    if gate.form == "no falsified":
        bad = [a for a in here if a.outcome == "falsified" and (gate.radius is None or a.radius is None or a.radius <= gate.radius)]
        undecided = sum(a.outcome == "open" for a in here)
        return Judged(gate.text, not bad and not undecided and bool(here), f"{len(bad)} falsified, {undecided} not asked yet, of {len(here)}")
    at = [a for a in here if gate.radius is None or a.radius == gate.radius]
    counts = {o: sum(a.outcome == o for a in at) for o in ("certified", "falsified", "unknown", "misclassified", "open")}
    told = ", ".join(f"{n} {'not asked yet' if o == 'open' else o}" for o, n in counts.items() if n) + f" of {len(at)}"
    if gate.form == "certified_accuracy":
        share = Fraction(counts["certified"], max(len(at), 1))
        return Judged(gate.text, bool(at) and COMPARISONS[gate.sign](share, gate.limit), f"certified accuracy {float(share):.4f}: {told}")
    if gate.form == "no unknown":
        return Judged(gate.text, bool(at) and not counts["unknown"] and not counts["open"], told)
    return Judged(gate.text, bool(at) and counts["certified"] == len(at), told)
