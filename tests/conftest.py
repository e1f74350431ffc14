"""What every room's tests share: the folder of real VNN-COMP instances."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vnncomp_dir() -> Path:
    """The data folder. Absent: the test fails under SOUNDPROOF_REQUIRE_DATA=1, and is skipped otherwise."""
    folder = Path(os.environ.get("SOUNDPROOF_VNNCOMP") or Path(__file__).resolve().parents[2] / "shared" / "vnncomp")
    if folder.is_dir():
        return folder
    message = f"no VNN-COMP data at {folder}; set SOUNDPROOF_VNNCOMP"
    if os.environ.get("SOUNDPROOF_REQUIRE_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)
