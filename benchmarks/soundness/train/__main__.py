"""Train a model of the family `trained`, export it, write its recipe.

    OMP_NUM_THREADS=1 nice python -m benchmarks.soundness.train --model NAME|all --seed N [--out DIR] [--steps N]

CPU only, one thread, at most a few minutes a model. An interrupted run continues from its last check; a model that is there is not trained again.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import time
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch

from benchmarks.soundness.train.architectures import ARCHITECTURES, Architecture
from benchmarks.soundness.train.data import draw
from benchmarks.soundness.train.export import export
from benchmarks.soundness.train.recipe import MODELS, save
from benchmarks.soundness.train.training import Knobs, Progress, Trainer, train

ROOT = Path(__file__).resolve().parents[3]
WORK = ROOT / "build/soundness_train"  # checkpoints; ignored by git


def commit() -> str:
    """The commit of the working tree, marked if the tree's training differs from it."""
    here = Path(__file__).resolve().parent
    name = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "."], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    return (name or "unknown") + ("+changes" if changed else "")


def run(name: str, seed: int, out: Path, work: Path, steps: int | None = None) -> Path:
    """Train, export, write the recipe. Returns its path."""
    architecture, code = ARCHITECTURES[name], commit()
    knobs = Knobs(steps=steps or architecture.steps, rate=architecture.rate, slope=architecture.slope, sideways=architecture.sideways)
    boxes = draw(prod(architecture.shape), architecture.boxes, architecture.radius, seed)
    trainer = Trainer(architecture, boxes, knobs, seed)
    kept = work / f"{name}_{seed}.pt"
    spent = _resume(trainer, kept)
    began = time.process_time() - spent

    def report(progress: Progress) -> None:
        print(f"{name}_{seed}: {progress} {time.process_time() - began:.0f} s", file=sys.stderr, flush=True)
        _keep(trainer, kept, time.process_time() - began)

    last = train(trainer, report)
    model = export(architecture, [p.numpy() for p in trainer.best.parameters])
    recipe = save(out, name, seed, model, boxes, {**_made(architecture, trainer, last, time.process_time() - began), "commit": code})
    kept.unlink(missing_ok=True)
    return recipe


def _made(architecture: Architecture, trainer: Trainer, last: Progress, seconds: float) -> dict[str, Any]:
    """How the model was made. `taken` is the check whose parameters are shipped."""
    return {
        "shape": list(architecture.shape), "layers": [repr(layer) for layer in architecture.layers], "parameters": trainer.network.size(),
        "knobs": asdict(trainer.knobs), "steps": trainer.done, "taken": asdict(trainer.best.progress), "last": asdict(last),
        "cpu_seconds": round(seconds, 1), "torch": torch.__version__,
    }  # fmt: skip


def _keep(trainer: Trainer, path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"state": trainer.state(), "seconds": seconds, "knobs": asdict(trainer.knobs)}, part)
    part.replace(path)


def _resume(trainer: Trainer, path: Path) -> float:
    """Continue from a checkpoint of the same run, if there is a whole one. Returns the seconds it had taken."""
    if not path.exists():
        return 0.0
    try:
        kept = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        print(f"{path}: unusable, starting anew: {error}", file=sys.stderr)
        return 0.0
    if kept["knobs"] != asdict(trainer.knobs):
        print(f"{path}: of another run, starting anew", file=sys.stderr)
        return 0.0
    trainer.restore(kept["state"])
    return float(kept["seconds"])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soundness.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=[*ARCHITECTURES, "all"], required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=MODELS)
    parser.add_argument("--steps", type=int, default=None, help="at most so many, instead of the architecture's own number")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ARCHITECTURES if options.model == "all" else [options.model]:
        if (options.out / f"{name}_{options.seed}.json").exists():
            print(f"{name}_{options.seed}: there already", file=sys.stderr)
            continue
        print(run(name, options.seed, options.out, WORK, options.steps))
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
