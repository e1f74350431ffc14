"""What a search may spend, and who may stop it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field


@dataclass
class Budget:
    """A deadline on the monotonic clock and a number of nodes (sub-problems bounded). `spent` counts nodes.

    Of the time, the check of the proof is left its share: `check` seconds, and `check_share` times what the search has taken so far, or what it
    is known to take where that is less.
    """

    deadline: float
    nodes: int | None = None
    check: float = 0.0
    check_share: float = 0.0
    began: float = field(default_factory=time.monotonic)
    spent: int = 0
    stopped: str | None = field(default=None)  # "time", "nodes" or "memory": why it ran out
    _check_takes: float = math.inf

    def seconds_left(self) -> float:
        """Seconds until the search has to end, possibly negative."""
        now = time.monotonic()
        return self.deadline - now - self.check - min(self.check_share * (now - self.began), self._check_takes)

    def check_takes(self, seconds: float) -> None:
        """The check of what is proven so far is expected to take so many seconds more than `check`."""
        self._check_takes = seconds

    def nodes_left(self) -> int | None:
        """Nodes left, or None for no limit."""
        return None if self.nodes is None else max(self.nodes - self.spent, 0)

    def out_of_memory(self) -> None:
        """Stop: what is open, or bounding one sub-problem of it, does not fit in memory."""
        self.stopped = "memory"

    def exhausted(self) -> bool:
        """Whether to stop; remembers why."""
        if self.stopped == "memory":
            return True
        if self.nodes is not None and self.spent >= self.nodes:
            self.stopped = "nodes"
        elif self.seconds_left() <= 0:
            self.stopped = "time"
        return self.stopped is not None
