"""Do our rooms come from our own distribution? Their names are common words, so another package might stand in the way."""

from __future__ import annotations

import importlib.util
import os

ROOMS = ("graph", "specs", "bounds", "verifier", "benchmarks")


class ForeignPackage(ImportError):
    """A package with the name of one of our rooms is found first, and it is not ours. Exit code 4."""


def check_origin() -> None:
    """Raise ForeignPackage, naming the path, unless every room lies beside this package."""
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    for room in ROOMS:
        found = importlib.util.find_spec(room)
        origin = found.origin if found is not None else None
        if origin is None or os.path.dirname(os.path.dirname(os.path.realpath(origin))) != home:
            place = origin or (", ".join(found.submodule_search_locations or ()) if found is not None else "") or "nowhere"
            raise ForeignPackage(
                f"soundproof needs its own package {room!r} in {home}, but Python finds {place}. "
                f"Run from another folder, or remove that path from PYTHONPATH, or install soundproof in an environment of its own."
            )
