"""The operator cases that come with the onnx package, collected once a process."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from onnx.backend.test.case.node import collect_testcases

VOLUME = (1, 3, 32, 32, 32)  # onnx's reference needs 20 s to pool the three of this shape


@cache
def cases() -> list[Any]:
    """All of them; their expected outputs are computed while they are collected."""
    randn = np.random.randn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "randn", lambda *shape: randn(*((min(n, 8) for n in shape) if shape == VOLUME else shape)))
        found: list[Any] = collect_testcases(None)
    return found
