"""Measures onnxruntime's unary float32 kernels on every float32 input: `make bench-kernels` (about 3 minutes a kernel, resumable).

The result, `verifier/checker/tables/onnxruntime.json`, is what the checker believes of activations in `float32`. A value may depend on
where in the tensor it stands: kernels built on Eigen treat full vectors (measured on chunks of 2^21 elements) and the last elements
(the C library's function, which is measured on every input too; that the runtime's results for short tensors are these, bit for bit,
is checked on samples). For kernels built on MLAS the samples show no difference. Processors with fewer instructions are imitated
where the kernel allows it: reads of the processor's features are trapped and answered without the features to be hidden.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from verifier.checker import measured
from verifier.checker.slack import OUTWARD, softmax_loss

HERE, BUILD = Path(__file__).parent, Path("build/kernels")
FACTOR = 2  # of safety, on every measured error
CELL_INPUTS, CELLS = 1 << 21, 2048
CELL = np.dtype([(n, "<f8") for n in ("absolute", "relative", "lowest", "highest")] + [(n, "<i8") for n in ("inputs", "outside", "falls")])
REFERENCE = 2.0**-50  # relative, at least what kernels.c errs by
RELATIVE = 2.0**-20  # above this a relative error says nothing: such a range gets an absolute one
VECTORS, LENGTHS = 10**8, (2, 3, 4, 5, 8, 10, 16, 17, 33, 64, 197)
COMPILER = ("cc", "-O2", "-fno-builtin", "-ffp-contract=off", "-shared", "-fPIC")
HIDDEN = {"avx2": "-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD", "sse": "-AVX512F,-AVX2,-AVX,-FMA,-BMI2"}  # for the C library's own choice

Array = NDArray[Any]


@dataclass(frozen=True)
class Kernel:
    """An operator; `name` is its key in the table, `number` that in kernels.c. `slope`: +1 if f grows, 0 if it is not monotone."""

    number: int
    name: str
    operator: str
    low: float
    high: float
    slope: int = 0
    exponent: float | None = None


KERNELS = (
    Kernel(0, "sigmoid", "Sigmoid", 0, 1, 1),
    Kernel(1, "tanh", "Tanh", -1, 1, 1),
    Kernel(2, "exp", "Exp", 0, np.inf, 1),
    Kernel(3, "log", "Log", -np.inf, np.inf, 1),
    Kernel(5, "erf", "Erf", -1, 1, 1),
    Kernel(6, "sin", "Sin", -1, 1),
    Kernel(7, "cos", "Cos", -1, 1),
    Kernel(9, "softplus", "Softplus", 0, np.inf, 1),
    Kernel(4, "sqrt", "Sqrt", 0, np.inf, 1),
    Kernel(8, "reciprocal", "Reciprocal", -np.inf, np.inf),
    Kernel(10, "pow 2", "Pow", 0, np.inf, 0, 2.0),
    Kernel(11, "pow 3", "Pow", -np.inf, np.inf, 1, 3.0),
    Kernel(12, "pow 0.5", "Pow", 0, np.inf, 1, 0.5),
    Kernel(13, "pow -0.5", "Pow", 0, np.inf, 0, -0.5),
)


def session(kernel: Kernel) -> onnxruntime.InferenceSession:
    """The operator alone, one thread."""
    operands = ["x"] if kernel.exponent is None else ["x", "p"]
    constants = [] if kernel.exponent is None else [numpy_helper.from_array(np.array(kernel.exponent, np.float32), "p")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    return opened(helper.make_graph([helper.make_node(kernel.operator, operands, ["y"])], "g", ends[:1], ends[1:], constants))


def opened(graph: onnx.GraphProto) -> onnxruntime.InferenceSession:
    """One thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def compiled(name: str) -> Path:
    """A shared object made of a C file beside this one; where a processor is imitated, which a compiler does not survive, it was made before."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = (BUILD / f"{name}.so").resolve()
    if "SOUNDPROOF_LEVEL" not in os.environ:
        subprocess.run([*COMPILER, str(HERE / f"{name}.c"), "-o", str(target), "-lm"], check=True)
    return target


def pointer(x: Array | None) -> ctypes.c_void_p:
    """Of an array's data."""
    return ctypes.c_void_p(None if x is None else x.ctypes.data)


def sample(count: int) -> Array:
    """Floats of all magnitudes and signs, denser where activations live."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 1 << 32, count // 2, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = (rng.normal(size=count - count // 2) * np.exp(2 * rng.normal(size=count - count // 2))).astype(np.float32)
    x = np.concatenate([bits, near])
    return np.asarray(x[np.isfinite(x)])


def same(a: Array, b: Array) -> Array:
    """Mask of equal results, NaN equal to NaN."""
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def positions(kernel: Kernel, library: ctypes.CDLL) -> bool:
    """Whether short tensors give other results than long ones; if so they must be what `tail` of kernels.c computes."""
    run, x = session(kernel), sample(400_000)
    body = run.run(None, {"x": np.concatenate([x, np.ones(64, np.float32)])})[0][: len(x)]
    tail = np.empty_like(x)
    library.tails(kernel.number, pointer(x), pointer(tail), ctypes.c_int64(len(x)))
    differs, start, length = False, 0, 1
    while start + length <= len(x):
        part = slice(start, start + length)
        found = run.run(None, {"x": x[part]})[0]
        as_body = same(found, body[part])
        if not (as_body | same(found, tail[part])).all():
            raise SystemExit(f"{kernel.name}: a tensor of {length} elements gives results that are neither those of a long one nor of the C library")
        differs = differs or not bool(as_body.all())
        start, length = start + length, length % 67 + 1
    return differs


def inputs(cell: int) -> Array:
    """Every float32 of a cell."""
    return np.arange(cell * CELL_INPUTS, (cell + 1) * CELL_INPUTS, dtype=np.uint32).view(np.float32)


def same_elsewhere(kernel: Kernel, folder: Path, differs: bool) -> Path | None:
    """A finished measurement of another level whose results were these, for every input; the tail must not be in question."""
    for file in sorted(folder.parent.glob(f"{onnxruntime.__version__}-*/{kernel.name}.npz")):
        with np.load(file) as held:
            sums, finished = held["sums"], int(held["done"]) == CELLS and bool(held["differs"]) == differs
        run = session(kernel)
        if finished and not (differs and "sse" in folder.name + file.parent.name) and all(
            zlib.crc32(run.run(None, {"x": inputs(cell)})[0]) == sums[cell] for cell in range(CELLS)
        ):  # fmt: skip
            print(f"{kernel.name}: all results as in {file}", file=sys.stderr, flush=True)
            return file
    return None


def measure(kernel: Kernel, folder: Path, library: ctypes.CDLL) -> None:
    """Fill folder/NAME.npz, from where an earlier run stopped."""
    file = folder / f"{kernel.name}.npz"
    if file.exists():
        with np.load(file) as held:
            body, tail, sums, done, differs = held["body"], held["tail"], held["sums"], int(held["done"]), bool(held["differs"])
    else:
        body, tail, sums, done, differs = np.zeros(CELLS, CELL), np.zeros(CELLS, CELL), np.zeros(CELLS, np.int64), 0, positions(kernel, library)
        if (twin := same_elsewhere(kernel, folder, differs)) is not None:
            shutil.copy(twin, file)
            return
    run, began = session(kernel), time.monotonic()
    for cell in range(done, CELLS):
        first = cell * CELL_INPUTS
        results = run.run(None, {"x": inputs(cell)})[0]
        sums[cell] = zlib.crc32(results)
        for y, cells in [(results, body), (None, tail)][: 1 + differs]:
            library.count(
                kernel.number, ctypes.c_uint32(first), ctypes.c_int64(CELL_INPUTS), pointer(y),
                ctypes.c_double(kernel.low), ctypes.c_double(kernel.high), kernel.slope, pointer(cells),
            )  # fmt: skip
        if cell % 64 == 63:
            part = file.with_suffix(".part.npz")
            np.savez(part, body=body, tail=tail, sums=sums, done=cell + 1, differs=differs)
            part.rename(file)
            print(f"{kernel.name}: {cell + 1}/{CELLS} cells, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def edges(cell: int) -> tuple[float, float]:
    """The smallest interval between floats that holds a cell of one sign and its neighbour's first."""
    bits = np.array([cell << 21, ((cell + 1) << 21) - (cell % 1024 == 1023)], dtype=np.uint32)
    low, high = np.abs(np.where(np.isfinite(bits.view(np.float32)), bits.view(np.float32), np.float32(3.4028235e38)).astype(np.float64)).tolist()
    return (low, high) if cell < 1024 else (-high, -low)


def rows(*halves: Array) -> list[list[float]]:
    """[lowest x, highest x, rho, tau] in ascending order, similar neighbours joined; each x belongs to every row that it touches."""
    counts = np.sum([h["inputs"] for h in halves], axis=0)
    relative, absolute = (np.max([h[n] for h in halves], axis=0) for n in ("relative", "absolute"))
    found: list[list[float]] = []
    for cell in [*range(2047, 1023, -1), *range(1024)]:
        if not counts[cell]:
            continue
        low, high = edges(cell)
        steady = relative[cell] <= RELATIVE
        rho, tau = (FACTOR * relative[cell] + REFERENCE, 0.0) if steady else (REFERENCE, FACTOR * absolute[cell])
        last = found[-1] if found else None
        if last is not None and last[1] != low:  # f is beyond float32 there
            found.append([last[1], low, 0.0, 2.0**127])
            last = None
        if last is not None and (last[3] == 0) == steady and (_alike(last[2], rho, 2.0**-22) if steady else _alike(last[3], tau, 2.0**-84)):
            last[1], last[2], last[3] = high, max(last[2], rho), max(last[3], tau)
        else:
            found.append([low, high, float(rho), float(tau)])
    return found


def _alike(a: float, b: float, small: float) -> bool:
    """Within a factor of 2, or both small."""
    return max(a, b) <= small or max(a, b) <= 2 * min(a, b)


def summary(kernel: Kernel, folder: Path) -> dict[str, Any] | None:
    """A kernel's entry in the table, once it is measured."""
    file = folder / f"{kernel.name}.npz"
    if not file.exists():
        return None
    with np.load(file) as held:
        if int(held["done"]) != CELLS:
            return None
        body, tail, differs = held["body"], held["tail"], bool(held["differs"])
    halves = [body, tail] if differs else [body]
    total = {name: sum(int(h[name].sum()) for h in halves) for name in ("outside", "falls")}
    return {
        "inputs": int(body["inputs"].sum()),
        "tail": "measured: the C library's" if differs else "as the body",
        "outside_range": total["outside"],
        "monotone": None if kernel.slope == 0 else total["falls"] == 0,
        "largest_absolute": float(np.max([h["absolute"] for h in halves])),
        "rows": rows(*halves),
    }


def compositions(folder: Path) -> None:
    """Softmax is exp, a sum and a quotient: its formula against VECTORS random vectors; nearest: the largest error / what is allowed."""
    rng, tested, nearest = np.random.default_rng(3), 0, 0.0
    rho, tau = measured.Table.fitting().worst("exp", -104.0, 0.0, "softmax")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["m", "n"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], "g", ends[:1], ends[1:])
    run = opened(graph)
    while tested < VECTORS:
        n, spread = int(rng.choice(LENGTHS)), float(10 ** rng.uniform(-2, 2))
        x = (rng.standard_normal((1 << 20) // n * n, dtype=np.float32) * np.float32(spread)).reshape(-1, n)
        weight = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
        y = weight / weight.sum(-1, keepdims=True)
        relative, absolute, _ = softmax_loss(rho, tau, np.minimum(x.max(-1, keepdims=True) - x.min(-1, keepdims=True).astype(np.float64), 104.0), n)
        ratio = np.abs(run.run(None, {"x": x})[0] - y) / (OUTWARD * (relative * y + absolute))
        tested, nearest = tested + len(x), float(np.maximum(nearest, ratio.max()))
    if not nearest < 1:
        raise SystemExit(f"softmax: {nearest} of what the checker allows")
    (folder / "softmax.json").write_text(json.dumps({"vectors": tested, "nearest": nearest}), encoding="utf-8")


def write(version: str, level: str, folder: Path) -> None:
    """Replace the entry of this runtime and processor in the table."""
    file = folder / "softmax.json"
    tested = {"softmax": json.loads(file.read_text(encoding="utf-8"))} if file.exists() else {}
    kernels = {k.name: found for k in KERNELS if (found := summary(k, folder)) is not None}
    entry = {"onnxruntime": version, "processor": level, "tested": tested, "kernels": kernels}
    held = json.loads(measured.FILE.read_text(encoding="utf-8"))["tables"] if measured.FILE.exists() else []
    others = [e for e in held if (e["onnxruntime"], e["processor"]) != (version, level) and e["kernels"]]
    tables = sorted([*others, entry], key=lambda e: (e["onnxruntime"], e["processor"]))
    text = json.dumps({"factor": FACTOR, "rows": "lowest x, highest x, relative error, absolute error", "tables": tables}, indent=1, allow_nan=False)
    measured.FILE.write_text(_compact(text) + "\n", encoding="utf-8")


def _compact(text: str) -> str:
    """Innermost lists on one line."""
    lines: list[str] = []
    for line in text.split("\n"):
        inside = lines and lines[-1].count("[") > lines[-1].count("]") and not line.strip().startswith(("[", "{", '"'))
        if inside and not lines[-1].endswith("[\n"):
            lines[-1] += line.strip() if lines[-1].endswith("[") or line.strip().startswith("]") else " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


def imitate(level: str) -> int:
    """Run this again as on a processor without the features above `level`."""
    compiled("kernels")
    features = f"glibc.cpu.hwcaps={HIDDEN[level]}"
    hidden = {**os.environ, "LD_PRELOAD": str(compiled("cpuid")), "SOUNDPROOF_LEVEL": level, "GLIBC_TUNABLES": features}
    return subprocess.run([sys.executable, "-m", "benchmarks.kernels", *sys.argv[1:]], env=hidden, check=False).returncode


def main() -> int:
    """Measure what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", choices=[k.name for k in KERNELS], help="only these")
    parser.add_argument("--level", choices=sorted(HIDDEN), help="imitate a processor of this level")
    parser.add_argument("--write", action="store_true", help="only write the table from what has been measured")
    options = parser.parse_args()
    if options.level and os.environ.get("SOUNDPROOF_LEVEL") != options.level:
        return imitate(options.level)
    version, level = onnxruntime.__version__, options.level or measured.processor()
    folder = BUILD / f"{version}-{level}"
    folder.mkdir(parents=True, exist_ok=True)
    library = ctypes.CDLL(str(compiled("kernels")))
    for kernel in KERNELS if not options.write else ():
        if options.kernel is None or kernel.name in options.kernel:
            measure(kernel, folder, library)
            write(version, level, folder)
    if not options.write and options.kernel is None and not options.level:
        compositions(folder)
    write(version, level, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
