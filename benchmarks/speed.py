"""Whole-process times of what must be quick, each the best and the median of a few runs: `python -m benchmarks.speed`.

Run it on an idle machine. It judges nothing: the targets are printed beside the numbers.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.instances import default_folder

RUNS = 5


@dataclass(frozen=True)
class Task:
    """A command line (after the interpreter), its exit code, and what is hoped of it: seconds, GB of peak memory (None: nothing)."""

    name: str
    arguments: tuple[str, ...]
    code: int
    seconds: float
    gigabytes: float | None = None


def tasks(folder: str) -> list[Task]:
    """The tasks, on the VNN-COMP data in `folder`."""
    verify = ("-m", "soundproof", "verify", "--quiet")
    acasxu, tll, nn4sys = (os.path.join(folder, name) for name in ("acasxu", "tllverifybench", "nn4sys"))
    return [
        Task("soundproof --help", ("-m", "soundproof", "--help"), 0, 0.4),
        Task(
            "a trivial instance (sat by a probe)",
            (*verify, f"{tll}/onnx/tllBench_n=2_N=M=8_m=1_instance_0_0.onnx.gz", f"{tll}/vnnlib/property_N=8_0.vnnlib.gz"), 10, 2.5,
        ),
        Task(
            "acasxu 5_5, prop_1 (unsat by search)",
            (*verify, f"{acasxu}/onnx/ACASXU_run2a_5_5_batch_2000.onnx.gz", f"{acasxu}/vnnlib/prop_1.vnnlib.gz"), 0, 4.0, 1.0,
        ),
        Task(
            "reading a 24 MB property",
            ("-c", "import sys; from specs.vnnlib import read; read(sys.argv[1])", f"{nn4sys}/vnnlib/cardinality_0_2680_128.vnnlib.gz"), 0, 6.0, 1.0,
        ),
    ]


def run(task: Task) -> tuple[float, float]:
    """Seconds and peak GB of one run of the process and its children. Raises RuntimeError if it ends with another code."""
    start = time.perf_counter()
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    child = os.posix_spawn(sys.executable, [sys.executable, *task.arguments], dict(os.environ), file_actions=null)
    _, status, usage = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status) != task.code:
        raise RuntimeError(f"{task.name}: exit code {os.waitstatus_to_exitcode(status)} instead of {task.code}")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def main() -> int:
    """Measure and print."""
    table = Table("what", "best s", "median s", "hoped s", "peak GB", "hoped GB")
    for task in tasks(str(default_folder())):
        runs = [run(task) for _ in range(RUNS)]
        seconds = [s for s, _ in runs]
        memory = "-" if task.gigabytes is None else str(task.gigabytes)
        peak = max(g for _, g in runs)
        table.add_row(task.name, f"{min(seconds):.2f}", f"{statistics.median(seconds):.2f}", str(task.seconds), f"{peak:.2f}", memory)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
