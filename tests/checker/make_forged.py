"""Writes forged certificates into tests/certificates/tampered/, each with a model and a property of its own: python -m tests.checker.make_forged

A forged file looks like a proof of what is false: the input that violates is known. (make_corpus.py writes the files for the small model.)
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.forgery import attempts, subjects
from benchmarks.forgery.broken import LIES, Engine
from benchmarks.forgery.climb import Climb
from benchmarks.forgery.judge import Judge
from tests.checker.make_corpus import FOLDER

FORGED = {  # name: seed of the subject, which lie or None for a climb, semantics
    "forged-linear-climb": (1, None, "real"),
    "forged-dense-dropped-child": (9, "dropped child", "real"),
    "forged-residual-stale-bounds": (11, "stale sibling bounds", "float32"),
    "forged-convolution-wrong-pad": (12, "wrong pad", "real"),
    "forged-pieces-swapped": (22, "children swapped", "real"),
    "forged-smooth-tight-relaxations": (23, "relaxations too tight by half", "real"),
    "forged-product-epsilon": (6, "epsilon shrunk by half", "real"),
    "forged-softmax-skipped-bias": (16, "skipped bias", "real"),
    "forged-pooling-threshold": (17, "threshold moved by 1e-9", "float32"),
    "forged-only-in-float32": (175, "impatient", "float32"),
}


def write() -> None:
    """All files; refuses to write what is accepted."""
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Path(folder))
        for name, (seed, lie, semantics) in FORGED.items():
            subject, random = subjects.planted(seed), np.random.default_rng(seed)
            if subject is None:
                raise ValueError(name)
            if lie is None:
                climb = Climb(subject, semantics, random)
                climb.run()
                data = climb.best
            else:
                chosen = next(one for one in LIES if one.name == lie)
                data = attempts.packed(subject, semantics, Engine(subject, chosen, random).run())
            verdict = judge(subject, data)
            if verdict.word != "REJECTED":
                raise ValueError(f"{name}: {verdict}")
            files = {f"models/{name}.onnx": subject.model, f"models/{name}.vnnlib": subject.text, f"tampered/{name}.cert": data}
            for path, content in files.items():
                (FOLDER / path).write_bytes(content)
            facts = {"model": f"models/{name}.onnx", "property": f"models/{name}.vnnlib", "outcome": "rejected", "rule": verdict.rule}
            (FOLDER / f"tampered/{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    np.seterr(all="ignore")
    write()
