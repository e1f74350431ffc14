"""From the engine's outcome to the result that is printed and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.compose import Composed
from graph.load import Model, TensorInfo
from specs.canonical import Property, Variable
from verifier.fit import semantics_of
from verifier.options import Options
from verifier.result import (
    Assignment,
    Assurance,
    Cases,
    Counterexample,
    FileIdentity,
    InvalidResult,
    Outcome,
    Reason,
    Result,
    Verdict,
    Witness,
    finite_or_none,
)
from verifier.statement import statement

Array = NDArray[Any]
ASSURANCE: dict[Verdict, Assurance] = {"sat": "replayed", "unsat": "unchecked", "unknown": "none", "timed-out": "none"}


@dataclass(frozen=True, eq=False)
class Loaded:
    """The two files of a run, read: paths, contents, and the SHA-256 of the decompressed property. Of several networks `model` is the composed
    one, `model_path` and `network` say where the first is from, and `more` all of them."""

    model_path: str
    network: str | None
    model: Model
    property_path: str
    property: Property
    property_sha256: str
    more: tuple[FileIdentity, ...] = ()

    def cases(self) -> Cases:
        """The counts before anything is decided: vacuous cases are closed."""
        count, vacuous = len(self.property.cases), self.property.vacuous
        return Cases(total=count + vacuous, closed=vacuous, vacuous=vacuous, open=count)

    def identities(self) -> tuple[tuple[FileIdentity, ...], FileIdentity]:
        """The models' and the property's entries in the result."""
        models = self.more or (FileIdentity(self.model_path, self.model.sha256, self.network),)
        return models, FileIdentity(self.property_path, self.property_sha256, self.property.version)

    def facts(self) -> dict[str, Any]:
        """What the watchdog needs to know in order to answer alone, as keys of the JSON."""
        models, prop = self.identities()
        return {"models": [asdict(model) for model in models], "property": asdict(prop), "cases": asdict(self.cases())}


def build_result(outcome: Outcome, loaded: Loaded, options: Options, load_seconds: float, peak: int | None) -> Result:
    """The result of a run; `unsat` is `unchecked` here, and only what the checker accepts becomes `certified`."""
    models, prop = loaded.identities()
    verdict: Verdict = "timed-out" if outcome.reason is not None and outcome.reason.code == "time" else outcome.verdict
    assurance, semantics = ASSURANCE[verdict], semantics_of(loaded.property, options.semantics)
    return Result(
        models=models,
        property_file=prop,
        verdict=verdict,
        assurance=assurance,
        statement=statement(verdict, assurance, options.model_names, loaded.property_path, outcome.cases, outcome.reason, semantics),
        semantics=semantics,
        reason=outcome.reason,
        bound=finite_or_none(outcome.bound),
        gap=finite_or_none(outcome.gap),
        cases=outcome.cases,
        nodes=outcome.nodes,
        leaves=outcome.leaves,
        closed_volume=finite_or_none(outcome.closed_volume),
        witness=Counterexample() if outcome.witness is None else _counterexample(outcome.witness, loaded),
        seconds={"load": load_seconds, **outcome.seconds},
        peak_memory_bytes=peak,
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        portfolio=outcome.portfolio,
    )


def uncertified(result: Result, reason: Reason, options: Options) -> Result:
    """The result of a proof for which there is no certificate."""
    text = statement("unknown", "none", options.model_names, options.property_path, result.cases, reason)
    return replace(result, verdict="unknown", assurance="none", reason=reason, statement=text)


def _counterexample(witness: Witness, loaded: Loaded) -> Counterexample:
    if isinstance(loaded.model, Composed):
        return _of_parts(witness, loaded.model, loaded.property)
    typed = bool(loaded.property.network)
    inputs = _assignments(witness.inputs, loaded.property.inputs, loaded.model.inputs, typed)
    outputs = _assignments(witness.outputs, loaded.property.outputs, loaded.model.outputs, typed)
    return Counterexample(inputs, outputs, witness.inside_exact_box, witness.float32_only)


def _of_parts(witness: Witness, model: Composed, prop: Property) -> Counterexample:
    """The same for a composed network: what its parts get and give."""
    networks = () if prop.query is None else prop.query.networks
    x, y = witness.inputs[model.source], witness.outputs[: len(witness.outputs) - len(model.products)]
    inputs, outputs = list[Assignment](), list[Assignment]()
    for network in networks:
        for found, variables, values in ((inputs, network.inputs, x), (outputs, network.results, y)):
            size = sum(v.size for v in variables)
            found += [replace(a, network=network.name) for a in _assignments(values[:size], variables, (), True)]
        x, y = x[sum(v.size for v in network.inputs) :], y[sum(v.size for v in network.results) :]
    if x.size or y.size:
        raise InvalidResult(f"{x.size} inputs and {y.size} outputs of a witness belong to no network")
    return Counterexample(tuple(inputs), tuple(outputs), witness.inside_exact_box, witness.float32_only)


def _assignments(values: Array, variables: Sequence[Variable], tensors: Sequence[TensorInfo], typed: bool) -> tuple[Assignment, ...]:
    """Cut the concatenated `values` into the property's variables; these take the shapes of the network's tensors where they match.
    `typed`: the property says element types; else they are called float32, which is what the values are."""
    if values.size != sum(v.size for v in variables) or not np.isfinite(values).all():
        raise InvalidResult(f"a witness of {values.size} values, or with NaN or Inf, for the variables {[v.name for v in variables]}")
    shapes = [t.shape for t in tensors] if [t.size for t in tensors] == [v.size for v in variables] else [v.shape for v in variables]
    ends = np.cumsum([v.size for v in variables])[:-1]
    parts = np.split(np.asarray(values, dtype=np.float32).astype(np.float64), ends)
    types = [v.element_type if typed else "float32" for v in variables]
    return tuple(
        Assignment(v.name, tuple(shape), tuple(part.tolist()), kind) for v, shape, part, kind in zip(variables, shapes, parts, types, strict=True)
    )
