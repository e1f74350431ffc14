"""How many bytes the parts of a search may take (DESIGN 6), and what happens when memory runs out all the same.

The shares depend on `--memory` alone, never on what the machine has left, so that a run stays the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Allotment:
    """Bytes. The defaults are where more does not make the search faster; `queue_bytes` bounds all open sub-problems."""

    block_bytes: int = 1 << 26  # backward coefficients of one block of rows
    batch_bytes: int = 3 << 25  # coefficients of one batch of boxes
    neuron_batch_bytes: int = 1 << 28  # slopes, bounds and coefficients of one batch of sub-problems
    attack_bytes: int = 1 << 28  # activations of one batch of points, gradients included
    queue_bytes: int = 1 << 32

    @classmethod
    def of(cls, gigabytes: float | None) -> Allotment:
        """Fixed shares of `gigabytes` (10^9 bytes), at most the defaults, which are what no limit gives; the queue gets a quarter."""
        if gigabytes is None:
            return cls()
        size = int(gigabytes * 1e9)
        return cls(
            min(cls.block_bytes, size // 64), min(cls.batch_bytes, size // 40), min(cls.neuron_batch_bytes, size // 16),
            min(cls.attack_bytes, size // 16), size // 4,
        )


def fits(work: Callable[[], object]) -> bool:
    """Do `work`; False if it ended for want of memory. Every other error passes through."""
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        return False
    return True


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """torch raises a type of its own for accelerators, and on the CPU a RuntimeError of its allocator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator: " in text and ("can't allocate memory" in text or "not enough memory" in text)
