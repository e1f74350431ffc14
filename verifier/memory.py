"""How much memory a process holds, as Linux reports it."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a process: now, and at most so far."""

    resident: int
    peak: int


def memory_of(pid: int) -> Memory | None:
    """Memory of process `pid`; None where the system does not tell (the process is gone, or this is not Linux)."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if line.startswith(("VmRSS:", "VmHWM:")))
    except OSError:
        return None
    if len(lines) != 2:
        return None
    return Memory(_bytes(lines["VmRSS"]), _bytes(lines["VmHWM"]))


def own_peak() -> int | None:
    """Peak resident bytes of this process."""
    memory = memory_of(os.getpid())
    return None if memory is None else memory.peak


def _bytes(field: str) -> int:
    return int(field.split()[0]) * 1024
