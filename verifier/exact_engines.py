"""The complete engines by name: what `--engine` takes. Light: options are read before anything heavy is imported."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from verifier.solver import Solve


@dataclass(frozen=True)
class Engine:
    """An exact engine: its name for people, whose word its `unsat` is in `--trust`, and where its `Solve` is. Only the solver that is asked for
    is loaded."""

    name: str
    trust: str
    module: str
    function: str
    float32: bool = False  # it is asked about the float32 program, not about the reals

    def solver(self) -> Solve:
        """The function that answers questions."""
        return cast("Solve", getattr(importlib.import_module(self.module), self.function))


ENGINES: Mapping[str, Engine | None] = MappingProxyType({  # None: our own branch and bound
    "auto": None,
    "bab": None,
    "smt": Engine("z3", "smt", "verifier.encode_smt", "solve_smt"),
    "milp": Engine("HiGHS", "milp", "verifier.milp", "solve_milp"),
    "smt-float32": Engine("z3's floating point", "smt", "verifier.encode_float32", "solve_smt_float32", float32=True),
})  # fmt: skip


def exact_engine(name: str) -> Engine:
    """The exact engine of this name."""
    engine = ENGINES[name]
    if engine is None:
        raise KeyError(f"{name} is no exact engine")
    return engine
