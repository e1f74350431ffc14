"""What tests of the checker share."""

from __future__ import annotations

import pytest

from verifier.checker import exact, walk


@pytest.fixture
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """No leaf is halved: what a single pass proves, and what it pays, shows."""
    monkeypatch.setattr(walk, "LEVELS", 0)
    monkeypatch.setattr(exact, "LEVELS", 0)
