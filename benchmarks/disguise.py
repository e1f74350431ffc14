"""The same instances under other names: does a verdict, or the time it takes, depend on anything but the problem?

    python -m benchmarks.disguise --out build/disguise --table benchmarks/results/dev.csv
    python -m benchmarks.vnncomp build/disguise --timeout 60 --jobs 2 --threads 1 --out benchmarks/results/disguise.csv
    python -m benchmarks.disguise --compare benchmarks/results/disguise.csv

The first writes a folder in the layout of VNN-COMP with pairs of instances that the table says were decided after some seconds: one as it is, and
one whose network and property have other file names, whose tensors and nodes have other names, whose hidden neurons are in another order, and
those between homogeneous functions scaled by powers of two. Networks without such a layer (chains of Gemm, MatMul, Conv) are left out. The last
prints what both took, and fails where verdicts differ or the times of all pairs together differ by more than a fifth.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks.formula import decompressed
from benchmarks.instances import DataError, Instance, default_folder, read_instances
from benchmarks.ledger import Key, read_table
from benchmarks.strategies.chains import links, permuted, rescaled
from benchmarks.strategies.draft import Draft

LEAST, MOST = 2.5, 40.0  # seconds that an instance took: less is start-up, more may end at the limit
ALLOWED = 1.2
EXPONENT = 3
PLAIN, OTHER = "plain", "other"


def disguised(model: onnx.ModelProto, seed: int) -> onnx.ModelProto | None:
    """The same function under other names and with its hidden neurons in another order and scale; None where no layer can be reordered."""
    draw = np.random.default_rng(seed)
    try:
        draft = _with_biases(Draft.of(model))
    except ValueError:
        return None
    found = links(draft)
    for link in found:
        draft = permuted(draft, link, draw.permutation(link.width).tolist())
        if link.homogeneous:
            draft = rescaled(draft, link, draw.integers(-EXPONENT, EXPONENT + 1, link.width).tolist())
    return _renamed(draft.model(), draw) if found else None


def _with_biases(draft: Draft) -> Draft:
    """MatMul of a matrix of rows and Add of one number per column as one Gemm, as which its neurons can be reordered."""
    shapes, result = draft.shapes(), draft.copy()
    for node in [n for n in result.nodes if n.op_type == "MatMul"]:
        readers = result.readers(node.output[0])
        rank = len(shapes.get(node.input[0], ()))
        if rank != 2 or len(readers) != 1 or readers[0].op_type != "Add" or node.input[1] not in result.constants:
            continue
        bias = next((name for name in readers[0].input if name in result.constants), None)
        if bias is None or result.constants[bias].shape not in ((shapes[node.output[0]][-1],), (1, shapes[node.output[0]][-1])):
            continue
        flat = result.constant("bias", result.constants[bias].reshape(-1))
        place = result.nodes.index(readers[0])
        result.nodes[place] = result.node("Gemm", [*node.input, flat], readers[0].output[0])
        result.nodes.remove(node)
    return result


def _renamed(model: onnx.ModelProto, draw: np.random.Generator) -> onnx.ModelProto:
    """The same model with drawn names of tensors, of nodes and of itself."""
    names: dict[str, str] = {"": ""}

    def other(name: str) -> str:
        return names.setdefault(name, f"t{draw.integers(10**6)}_{len(names)}")

    for node in model.graph.node:
        node.name = f"n{draw.integers(10**6)}"
        node.input[:], node.output[:] = [[other(name) for name in side] for side in (node.input, node.output)]
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        value.name = other(value.name)
    model.graph.name = f"g{draw.integers(10**6)}"
    return model


def pairs(out: Path, instances: Sequence[Instance], times: Mapping[Key, float], per_category: int, seed: int) -> int:
    """Write the folder; returns the number of pairs. Raises DataError."""
    taken: dict[str, list[tuple[str, str]]] = {}
    for instance in sorted(instances, key=lambda i: hashlib.sha256(f"{seed} {i.key}".encode()).digest()):
        done = taken.setdefault(instance.category, [])
        if not LEAST <= times.get(instance.key, 0.0) <= MOST or len(done) == per_category:
            continue
        network, prop = (decompressed(path) for path in instance.files())
        other = disguised(onnx.ModelProto.FromString(network), seed)
        if other is None:
            continue
        name = hashlib.sha256(f"{seed} {instance.key}".encode()).hexdigest()[:12]
        folder = out / instance.category
        folder.mkdir(parents=True, exist_ok=True)
        for kind, content in ((PLAIN, network), (OTHER, other.SerializeToString())):
            (folder / f"{name}-{kind}.onnx").write_bytes(content)
            (folder / f"{name}-{kind}.vnnlib").write_bytes(prop)
        done.append((name, instance.label))
    for category, done in taken.items():
        if done:
            lines = [f"{name}-{kind}.onnx,{name}-{kind}.vnnlib,60\n" for name, _ in done for kind in (PLAIN, OTHER)]
            (out / category / "instances.csv").write_text("".join(lines), encoding="utf-8")
    return sum(map(len, taken.values()))


def compare(results: Mapping[Key, tuple[str, float]]) -> int:
    """Print the pairs; 1 where verdicts differ or the times together by more than ALLOWED."""
    found = {(category, network): told for (category, network, _), told in results.items()}
    ratios, differ = [], 0
    for (category, network), (verdict, seconds) in sorted(found.items()):
        twin = found.get((category, network.replace(f"-{PLAIN}.", f"-{OTHER}.")))
        if f"-{PLAIN}." not in network or twin is None:
            continue
        ratios.append(twin[1] / seconds)
        differ += twin[0] != verdict
        print(f"{category} {network.split('-')[0]}: {verdict} in {seconds:.1f} s, disguised {twin[0]} in {twin[1]:.1f} s, {ratios[-1]:.2f}")
    if not ratios:
        print("no pair in this table", file=sys.stderr)
        return 1
    middle, within = float(np.median(ratios)), sum(1 / ALLOWED <= r <= ALLOWED for r in ratios)
    print(f"{len(ratios)} pairs: {differ} verdicts differ, median ratio of times {middle:.2f}, {within} within a fifth")
    return 1 if differ or not 1 / ALLOWED <= middle <= ALLOWED else 0


def main(arguments: list[str]) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.disguise", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="the folder to write")
    parser.add_argument("--table", type=Path, default=Path("benchmarks/results/dev.csv"), help="of benchmarks.vnncomp: what took how long")
    parser.add_argument("--compare", type=Path, metavar="TABLE", help="of benchmarks.vnncomp, of such a folder")
    parser.add_argument("--per-category", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.compare is None):
        parser.error("give --out FOLDER or --compare TABLE")
    try:
        if options.compare is not None:
            return compare(read_table(options.compare))
        times = {key: seconds for key, (result, seconds) in read_table(options.table).items() if result in ("sat", "unsat")}
        count = pairs(options.out, read_instances(default_folder()), times, options.per_category, options.seed)
    except DataError as error:
        print(error, file=sys.stderr)
        return 3
    print(f"{count} pairs in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
