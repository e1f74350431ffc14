"""A pytest plugin: the fixture `assert_certified` proves, in a test, that a classifier is robust around given samples.

    def test_the_digits_model_is_robust(assert_certified):
        assert_certified("digits.onnx", X[:20], y[:20], linf="2/255", at_least=0.9)

It lies outside the package `soundproof` because pytest imports it in every run: nothing but pytest and the standard library is imported here, and
a project with a package that is called `graph`, say, can still be tested. The command `soundproof certify` does the work, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

COMPLETE = (0, 1)  # exit codes of `soundproof certify` that come with a whole report
MOST_NAMED = 10


class CertificationError(Exception):
    """`soundproof certify` could not answer: unusable model or data, wrong options. The message is the command's."""


@pytest.fixture
def assert_certified(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """`assert_certified(model, X, y, linf=R)` passes if every sample is classified as labelled, and proven to stay so within R of each input.

    model: a path, an onnx.ModelProto or the bytes of one. X [n, ...]: samples as the program is given them; y [n]: labels. By name:
    linf: the radius, a number or a text like "2/255".
    at_least: the share of the samples that has to be certified (default 1).
    policy: a TOML file with regions, properties, preprocessing and gates, instead of `linf` or beside it; its gates have to pass as well.
    timeout: seconds a sample (default 60). nodes: a budget of sub-problems, which repeats exactly. semantics: "float32" (default) or "real".
    evidence: a folder for what `soundproof recheck` checks (default: pytest's temporary one).
    Returns the report. Raises AssertionError that names the samples that are not certified, CertificationError where nothing can be said.
    """

    def check(model: object, X: object, y: object, **how: Any) -> dict[str, Any]:
        __tracebackhide__ = True
        folder = tmp_path_factory.mktemp("certified")
        return certify(folder, model, X, y, **how)

    return check


def certify(folder: Path, model: object, X: object, y: object, *, linf: object = None, at_least: float = 1.0,
            policy: str | os.PathLike[str] | None = None, timeout: float = 60.0, nodes: int | None = None, semantics: str = "float32",
            evidence: str | os.PathLike[str] | None = None) -> dict[str, Any]:  # fmt: skip
    """The fixture's work; `folder` takes the inputs. See `assert_certified`."""
    __tracebackhide__ = True
    if linf is None and policy is None:
        raise CertificationError("assert_certified needs linf=RADIUS, or policy=FILE")
    if not 0 < at_least <= 1:
        raise CertificationError(f"at_least={at_least}: it is a share, above 0 and at most 1")
    out = Path(evidence) if evidence is not None else folder / "evidence"
    command = [sys.executable, "-P", "-m", "soundproof", "certify", str(_model(model, folder)), "--data", str(_data(X, y, folder)), "--out", str(out),
               "--semantics", semantics, "--timeout", f"{timeout:g}", "--quiet"]
    command += [] if linf is None else ["--region", f"linf:{radius(linf)}"]
    command += [] if policy is None else ["--policy", os.fspath(policy)]
    command += [] if nodes is None else ["--nodes", str(nodes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in COMPLETE:
        raise CertificationError(f"soundproof certify ended with exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    found = failures(report, at_least)
    if found:
        raise AssertionError("\n".join([*found, f"evidence: {out}"]))
    return report


def failures(report: dict[str, Any], at_least: float) -> list[str]:
    """What the report says against the assertion: for every check too few certified samples, named; and gates that failed. Empty: it holds."""
    samples, lines = {s["index"]: s for s in report["samples"]}, list[str]()
    for check in report["checks"]:
        for row in check.get("table", ()):
            asked = {q["sample"]: q for q in report["queries"] if (q["check"], q["radius"]) == (check["name"], row["radius"])}
            certified = sum(q["status"] == "certified" for q in asked.values())
            if not samples or certified < at_least * len(samples):
                where = f"{check['name']} {row['radius'] or ''}".strip()
                lines.append(f"{where}: {certified} of {len(samples)} samples are certified; the share wanted is {at_least:g}")
                lines += _named([(s, asked.get(i)) for i, s in samples.items()])
    if not any("table" in check for check in report["checks"]) and not report["gates"]:
        lines.append("nothing was asserted: the policy has neither a check with a radius, nor a gate")
    return lines + [f"gate failed: {g['text']}: {g['why']}" for g in report["gates"] if not g["passed"]]


def radius(value: object) -> str:
    """The radius as an exact decimal or fraction: a float is taken as the decimal that Python prints. Raises CertificationError."""
    text = value.strip() if isinstance(value, str) else str(value) if isinstance(value, Fraction | int) else repr(float(value))  # type: ignore[arg-type]
    try:
        if Fraction(text) >= 0:
            return text
    except (ValueError, ZeroDivisionError):
        pass
    raise CertificationError(f"linf={value!r}: expected a radius, like 0.01 or '2/255'")


def _named(samples: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> list[str]:
    """One line a sample that is not certified, the first few, and how many there are of each kind."""
    open_ = [(s, q) for s, q in samples if q is None or q["status"] != "certified"]
    kinds = Counter("misclassified" if s["correct"] is False else q["status"] if q else "not asked" for s, q in open_)
    lines = [f"  {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}"]
    for sample, query in open_[:MOST_NAMED]:
        if sample["correct"] is False:
            why = f"misclassified: predicted {sample['predicted']}, labelled {sample['label']}"
        elif query is None:
            why = "not asked"
        else:
            reason = (query["reason"] or {}).get("text")
            why = query["status"] + (f": {reason}" if reason else f", witness {query['witness']['path']}" if query["witness"] else "")
        lines.append(f"  sample {sample['id']}: {why}")
    return lines + ([f"  and {len(open_) - MOST_NAMED} more"] if len(open_) > MOST_NAMED else [])


def _model(model: object, folder: Path) -> Path:
    if isinstance(model, str | os.PathLike):
        return Path(model)
    content = model if isinstance(model, bytes) else model.SerializeToString() if hasattr(model, "SerializeToString") else None
    if content is None:
        raise CertificationError(f"the model is a {type(model).__name__}; give a path, an onnx.ModelProto, or its bytes")
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def _data(X: object, y: object, folder: Path) -> Path:
    """The samples as a file; `soundproof certify` judges what is in them."""
    import numpy as np

    path = folder / "samples.npz"
    np.savez(path, X=np.asarray(X), y=np.asarray(y))
    return path
