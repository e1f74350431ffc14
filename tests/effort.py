"""How much the tests draw: `make test` a quarter, so that it ends within ten minutes; with SOUNDPROOF_THOROUGH=1, as in `make test-all`, all."""

from __future__ import annotations

import os


def thorough() -> bool:
    return os.environ.get("SOUNDPROOF_THOROUGH") == "1"


def examples(number: int, least: int = 10) -> int:
    """How many of `number` examples are drawn; at least `least` of them, below which they would show too little."""
    return number if thorough() else min(number, max(least, number // 4))
