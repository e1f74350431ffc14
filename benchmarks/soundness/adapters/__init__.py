"""The verifiers that the suite knows how to call. An adapter is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.soundness.adapters.abcrown import AlphaBetaCrown
from benchmarks.soundness.adapters.auto_lirpa import AutoLirpa
from benchmarks.soundness.adapters.base import Adapter, AdapterError, Tool
from benchmarks.soundness.adapters.marabou import Marabou, MarabouCommand
from benchmarks.soundness.adapters.neuralsat import NeuralSat
from benchmarks.soundness.adapters.nnenum import Nnenum
from benchmarks.soundness.adapters.ours import Ours
from benchmarks.soundness.adapters.pyrat import PyRat
from benchmarks.soundness.adapters.vnncomp import ThreeScripts

ADAPTERS: dict[str, Callable[[Tool], Adapter]] = {
    "soundproof": Ours,
    "alpha-beta-crown": AlphaBetaCrown,
    "neuralsat": NeuralSat,
    "marabou": Marabou,
    "marabou-command": MarabouCommand,
    "nnenum": Nnenum,
    "pyrat": PyRat,
    "auto-lirpa": AutoLirpa,
    "vnncomp": ThreeScripts,
}


def adapter(name: str, tool: Tool) -> Adapter:
    """The adapter of that name. Raises AdapterError."""
    if name not in ADAPTERS:
        raise AdapterError(f"no adapter {name!r}; there are {', '.join(ADAPTERS)}")
    return ADAPTERS[name](tool)
