"""The soundness suite: instances whose truth is known by construction, run against any verifier (DESIGN 8).

    from benchmarks.soundness import run_suite
    report = run_suite(verify, "suite", timeout=5)      verify(model_path, property_path, timeout) -> (verdict, witness or None)
    report.fatal                                        what it got wrong, each with the counterexample

The name is imported when it is first used, so that importing a part of the suite does not import all of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.soundness.suite import run_suite as run_suite

__all__ = ["run_suite"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'benchmarks.soundness' has no attribute {name!r}")
    return getattr(importlib.import_module("benchmarks.soundness.suite"), name)
