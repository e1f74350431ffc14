"""The real engine, run on a problem that is not quite the one its certificate names."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.forgery import proof
from benchmarks.forgery.broken import Lie, told
from benchmarks.forgery.subjects import Array, Random, Subject, written
from graph.errors import ModelError
from graph.load import load
from specs import vnnlib
from specs.errors import PropertyError
from verifier.certificate import IncompleteProof, Recorder
from verifier.engine import run
from verifier.options import Options

NODES = 3000


def decided(model: bytes, text: bytes, seconds: float, folder: Path, seed: int = 0) -> tuple[str, Array | None, bool | None, bytes]:
    """Verdict, witness, whether only rounding violates there, and the certificate of an `unsat`, with hashes of zeros."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        paths = [Path(scratch) / name for name in ("model.onnx", "property.vnnlib", "proof.cert")]
        paths[0].write_bytes(model)
        paths[1].write_bytes(text)
        recorder = Recorder(scratch)
        try:
            prop = vnnlib.read(paths[1])
            options = Options(str(paths[0]), str(paths[1]), timeout=seconds, nodes=NODES, seed=seed, threads=1)
            outcome = run(load(model), prop, options, recorder)
            if outcome.verdict == "unsat":
                recorder.write(str(paths[2]), "0" * 64, "0" * 64, "real")
                return "unsat", None, None, paths[2].read_bytes()
        except (ModelError, PropertyError, IncompleteProof):
            return "error", None, None, b""
        finally:
            recorder.close()
    if outcome.witness is None:
        return outcome.verdict, None, None, b""
    return "sat", outcome.witness.inputs.astype(np.float64), outcome.witness.float32_only, b""


def certificate(subject: Subject, lie: Lie, random: Random, seconds: float, folder: Path) -> bytes:
    """What the engine proves of a wrong model or property, with the true hashes; empty if nothing."""
    model = subject.model if lie.model is None else lie.model(subject.model, random)
    _, cases = told(subject, Lie("told", box=lie.box, threshold=lie.threshold), random)
    verdict, _, _, data = decided(model, written(cases), seconds, folder, int(random.integers(1 << 30)))
    if verdict != "unsat":
        return b""
    manifest, columns = proof.unpack(data)
    semantics = "real" if subject.real and random.random() < 0.5 else "float32"
    return proof.pack({**manifest, **subject.manifest, "semantics": semantics}, columns)
