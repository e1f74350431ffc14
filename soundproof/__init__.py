"""Soundproof decides whether a neural network satisfies a property, and proves its answer.

    result = soundproof.verify("network.onnx", "property.vnnlib", timeout=60)
    result.verdict      "unsat" (holds), "sat" (violated, see result.witness), "unknown" or "timed-out"

Names are imported when they are first used, so `import soundproof` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from soundproof.origin import check_origin

if TYPE_CHECKING:
    from bounds.library import BoundedNetwork as BoundedNetwork
    from graph.errors import ModelError as ModelError
    from graph.load import load as load
    from soundproof.api import VerificationError as VerificationError
    from soundproof.api import verify as verify
    from specs.errors import PropertyError as PropertyError
    from specs.vnnlib import read as read_property
    from verifier.options import OptionError as OptionError
    from verifier.result import Result as Result
    from verifier.version import VERSION as __version__

check_origin()

_HOMES = {
    "BoundedNetwork": ("bounds.library", "BoundedNetwork"),
    "ModelError": ("graph.errors", "ModelError"),
    "OptionError": ("verifier.options", "OptionError"),
    "PropertyError": ("specs.errors", "PropertyError"),
    "Result": ("verifier.result", "Result"),
    "VerificationError": ("soundproof.api", "VerificationError"),
    "__version__": ("verifier.version", "VERSION"),
    "load": ("graph.load", "load"),
    "read_property": ("specs.vnnlib", "read"),
    "verify": ("soundproof.api", "verify"),
}

__all__ = [
    "BoundedNetwork",
    "ModelError",
    "OptionError",
    "PropertyError",
    "Result",
    "VerificationError",
    "__version__",
    "load",
    "read_property",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'soundproof' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
