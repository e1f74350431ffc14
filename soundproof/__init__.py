"""Soundproof decides whether a neural network satisfies a property, and proves its answer.

    result = soundproof.verify("network.onnx", "property.vnnlib", timeout=60)
    result.verdict      "unsat" (holds), "sat" (violated, see result.witness), "unknown" or "timed-out"
    soundproof.verify(torch_module, soundproof.untargeted(soundproof.linf_box(image, 2 / 255), label=3, classes=10), example=torch_input)

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
    from soundproof.api import compute_bounds as compute_bounds
    from soundproof.api import verify as verify
    from specs.build import box as box
    from specs.build import linf_box as linf_box
    from specs.build import output_range as output_range
    from specs.build import targeted as targeted
    from specs.build import untargeted as untargeted
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
    "box": ("specs.build", "box"),
    "compute_bounds": ("soundproof.api", "compute_bounds"),
    "linf_box": ("specs.build", "linf_box"),
    "load": ("graph.load", "load"),
    "output_range": ("specs.build", "output_range"),
    "read_property": ("specs.vnnlib", "read"),
    "targeted": ("specs.build", "targeted"),
    "untargeted": ("specs.build", "untargeted"),
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
    "box",
    "compute_bounds",
    "linf_box",
    "load",
    "output_range",
    "read_property",
    "targeted",
    "untargeted",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'soundproof' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
