"""How well do planted counterexamples hide? Every attack and budget on every instance of the family `trained` that has one.

    OMP_NUM_THREADS=1 nice python -m benchmarks.soundness.hidden [--seed 0] [--attacks 1] [--out CSV] [--page MD] [--decided RESULTS --suite FOLDER]

`--decided`: our verifier's table of the whole suite (`soundproof soundness run`), from which the page tells which needles and trained instances it
decides.
`--attacks`: the seed of the attacks. Models were chosen by those of seed 0, so that what is published is of another.
Resumable: an instance whose model, planted point and attacks are those of the table is not attacked again. A hit counts only once onnxruntime has
run the point on the file and the property, in exact rationals of its outputs, is violated. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import formula, table
from benchmarks.instances import DataError
from benchmarks.runtime import Runtime
from benchmarks.soundness import decided
from benchmarks.soundness.families.trained import instances
from benchmarks.soundness.hidden_page import page
from benchmarks.soundness.instance import Instance, SuiteError, read
from benchmarks.soundness.train import measure
from benchmarks.soundness.train.budgets import ATTACKS, PUBLISHED

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]
MEASURES = ("gradient_least", "gradient_median", "gradient_zero")
COLUMNS = ("instance", "model", "parameters", "planted_margin", *ATTACKS, "lowest", *MEASURES, "seconds", "attacks", "key")
HIDDEN, DECIDED = ROOT / "benchmarks/results/hidden.csv", ROOT / "benchmarks/results/hidden_decided.csv"
PAGE = ROOT / "docs/soundness_hidden.md"
REPLAYED = 5  # points per attack that onnxruntime is asked about


def key(instance: Instance, seed: int) -> str:
    """What a line of the table is about."""
    if instance.planted is None:
        raise ValueError(f"{instance.name} has no planted point")
    parts = instance.model.SerializeToString(deterministic=True), instance.property.encode(), instance.planted.point.tobytes(), str(seed).encode()
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def line(instance: Instance, violates: Callable[[Array], bool], seed: int) -> dict[str, str]:
    """Attack one instance, attacks of that seed. Per attack: 1 if it found a violation, else 0."""
    began = time.process_time()
    found = {"instance": instance.name, "model": str(instance.knobs["model"]), "parameters": str(instance.knobs["parameters"])}
    if instance.planted is not None:
        found["planted_margin"] = f"{float(instance.planted.real):.4g}"
    lowest = float("inf")
    for name, result in measure.attacks(instance.model.SerializeToString(), instance.property, seed):
        order = np.argsort(result.margins)[:REPLAYED]
        found[name] = str(int(any(violates(result.points[k]) for k in order)))
        lowest = min(lowest, float(result.margins.min(initial=np.inf)))
    norms = measure.gradients(instance.model.SerializeToString(), instance.property)
    found |= {"gradient_least": f"{norms.min():.4g}", "gradient_median": f"{np.median(norms):.4g}", "gradient_zero": str(int((norms == 0).sum()))}
    return found | {"lowest": f"{lowest:.4g}", "seconds": f"{time.process_time() - began:.1f}", "attacks": str(seed), "key": key(instance, seed)}


def judge(instance: Instance, folder: Path) -> Callable[[Array], bool]:
    """Whether a float32 point is a counterexample: the file in onnxruntime, the property as the judges read it."""
    path = folder / "model.onnx"
    path.write_bytes(instance.model.SerializeToString())
    runtime, violation = Runtime(path), formula.parse(instance.property)

    def violates(x: Array) -> bool:
        y = runtime.run(x)
        exact = ([Fraction(float(v)) for v in values] for values in (x, y))
        return bool(np.isfinite(y).all()) and violation.formula.holds(*exact, exact_box=True)

    return violates


def measured(subjects: Sequence[Instance], known: Mapping[str, dict[str, str]], seed: int) -> Iterator[dict[str, str]]:
    """The line of every instance, taken from the table where it is the same instance."""
    for instance in subjects:
        if key(instance, seed) in known:
            yield known[key(instance, seed)] | {"instance": instance.name}
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = line(instance, judge(instance, Path(folder)), seed)
        print(" ".join(f"{k}={v}" for k, v in found.items() if k != "key"), file=sys.stderr, flush=True)
        yield found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soundness.hidden", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the family")
    parser.add_argument("--attacks", type=int, default=PUBLISHED, help="the seed of the attacks")
    parser.add_argument("--out", type=Path, default=HIDDEN)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--decided", type=Path, default=None, help="the table of a finished run of our verifier on --suite")
    parser.add_argument("--suite", type=Path, default=ROOT / "build/suite")
    options = parser.parse_args(arguments)
    try:
        known = {line["key"]: line for line in table.read(options.out, COLUMNS)}
        if options.decided is not None:
            table.write(DECIDED, decided.COLUMNS, decided.summary(options.decided, read(options.suite)))
        ours = table.read(DECIDED, decided.COLUMNS)
    except (DataError, SuiteError) as error:
        print(error, file=sys.stderr)
        return 3
    subjects = [instance for instance in instances(options.seed) if instance.planted is not None]
    lines: list[dict[str, str]] = []
    for found in measured(subjects, known, options.attacks):
        lines.append(found)
        table.write(options.out, COLUMNS, [*lines, *(v for k, v in known.items() if k not in {done["key"] for done in lines})])
    table.write(options.out, COLUMNS, lines)
    options.page.write_text(page(lines, ours), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
