"""HOW TIGHT: interval and linear bounds over the core graph, as a library.

Names are imported when they are first used, so `import bounds` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bounds.library import BoundedNetwork as BoundedNetwork
    from bounds.library import parameters as parameters

__all__ = ["BoundedNetwork", "parameters"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bounds' has no attribute {name!r}")
    return getattr(importlib.import_module("bounds.library"), name)
