"""All mutants of the engine by name, the guards that may be taken out, and the settings under which they are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.soundness.mutants import bounding, lowering, parsing, searching, witnessing
from benchmarks.soundness.mutants.edit import Change, Edit, Mutant, Setting
from verifier import portfolio

GUARDS: Mapping[str, Change] = {
    "comparison": Edit("verifier.fit:compare_with_runtime", "case, notes = next(iter(prop.cases), None)", "case, notes = None"),
    "accounts": Edit("verifier.engine:_check_accounts", "if not (found.proven", "if False and not (found.proven"),
    "crossed": Edit("verifier.bounding:raise_if_crossed", "if state.crossed is not None and", "if False and state.crossed is not None and"),
}

SETUPS: Mapping[str, tuple[Change, ...]] = {
    "": (),
    "inputs": (Setting("verifier.portfolio:CONSTANTS", replace(portfolio.CONSTANTS, input_split_most=10**6, race_nodes=4)),),
    "neurons": (Setting("verifier.portfolio:CONSTANTS", replace(portfolio.CONSTANTS, input_split_most=-1, trial_nodes=0)),),
    "forward": (
        Edit("verifier.portfolio:prefers_forward", "return varying <= CONSTANTS.forward_most and", "return varying <= CONSTANTS.forward_most or"),
    ),
}


def _named(*parts: tuple[Mutant, ...]) -> Mapping[str, Mutant]:
    found: dict[str, Mutant] = {}
    for mutant in (mutant for part in parts for mutant in part):
        if mutant.name in found:
            raise ValueError(f"two mutants are called {mutant.name}")
        found[mutant.name] = mutant
    return found


ENGINES = _named(lowering.MUTANTS, parsing.MUTANTS, bounding.MUTANTS, searching.MUTANTS, witnessing.MUTANTS)


def changes(mutant: Mutant, *, guards: bool) -> tuple[Change, ...]:
    """What is changed in a process that runs this mutant; without `guards` those that it names are out."""
    out = () if guards else tuple(GUARDS[name] for name in mutant.off)
    return (*mutant.changes, *SETUPS[mutant.setup], *out)
