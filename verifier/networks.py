"""The networks of a run: the files that a query names, loaded, and put together as one model where it speaks of more than one of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from graph import load as graph_load
from graph.compose import Part, compose, isomorphic
from graph.load import Model
from specs.canonical import PRODUCTS, Declared, Property, Query
from specs.errors import PropertyError
from verifier.fit import check_tensors

Named = Sequence[tuple[str, str]]  # (name, path)


def load_models(prop: Property, models: Named) -> Model:
    """The network that `prop` is about, from the files that `models` name. A name may be "" where one file is enough.

    Raises PropertyError where a network has no file, a file no network, or a network is not what the property says; ModelError for files.
    """
    query = prop.query
    if query is None or len(query.with_files) == 1:
        if len(models) > 1:
            names = ", ".join(name for name, _ in models)
            raise PropertyError(f"{prop.source}: the property has one network with a file of its own, and files are given for {names}")
        if query is not None and models[0][0] not in ("", query.networks[0].name):
            raise PropertyError(f"{prop.source}: the property declares the network {query.networks[0].name}, and --network names {models[0][0]}")
    if query is None or not query.is_composed:
        return graph_load.load(models[0][1])
    paths = _paths(prop.source, query, models)
    hidden = {name: _hidden(query, name) for name in paths}
    loaded = {name: graph_load.load(path, hidden=hidden[name]) for name, path in paths.items()}
    files = [_implementation(d) for d in query.networks]
    parts = [_fitting(prop.source, d, loaded[f], loaded.get(d.other), len(hidden[f])) for d, f in zip(query.networks, files, strict=True)]
    return compose(parts, query.source, _places(prop, query))


def _implementation(declared: Declared) -> str:
    """The network whose file it has."""
    return declared.other if declared.relation == "equal-to" else declared.name


def _paths(source: str, query: Query, models: Named) -> dict[str, str]:
    """The file of every network that has one, in the order of declaration."""
    wanted, given = [d.name for d in query.with_files], dict(models)
    if len(wanted) == 1:
        return {wanted[0]: models[0][1]}
    if len(given) < len(models):
        raise PropertyError(f"{source}: --network names a network twice")
    missing, unknown = [name for name in wanted if name not in given], [name for name in given if name not in wanted]
    if missing or unknown:
        what = f"no file is given for {', '.join(missing)}" if missing else f"files are given for {', '.join(unknown) or 'one without a name'}"
        raise PropertyError(f"{source}: the property has the networks {', '.join(wanted)} with files of their own, and {what} (--network NAME=MODEL)")
    return {name: given[name] for name in wanted}


def _hidden(query: Query, name: str) -> list[str]:
    """The hidden tensors that are asked of a file."""
    return list(dict.fromkeys(hidden.node for d in query.networks if _implementation(d) == name for hidden in d.hidden))


def _fitting(source: str, declared: Declared, model: Model, other: Model | None, count: int) -> Part:
    """The network as a part, with what is asked of it. `other` is what it is related to; the last `count` of its outputs are hidden tensors.

    Raises PropertyError where tensors or structure are not what is declared.
    """
    outputs, hidden = model.outputs[: len(model.outputs) - count], {info.name: info for info in model.outputs}
    check_tensors("input", declared.inputs, model.inputs, source, model.path)
    check_tensors("hidden tensor", [h.variable for h in declared.hidden], [hidden[h.node] for h in declared.hidden], source, model.path)
    check_tensors("output", declared.outputs, outputs, source, model.path)
    if declared.relation == "isomorphic-to" and other is not None and not isomorphic(other.lowered, model.lowered):
        why = f"{model.path} has another structure than {other.path}"
        raise PropertyError(f"{source}: {declared.name} is isomorphic-to {declared.other}, but {why}")
    return Part(declared.name, model, (*(h.node for h in declared.hidden), *(info.name for info in outputs)))


def _places(prop: Property, query: Query) -> list[tuple[int, ...]]:
    """Products as places in the concatenation of outputs and inputs."""
    tensors = [v for v in (*prop.outputs, *prop.inputs) if v.name != PRODUCTS]
    first = dict(zip([v.name for v in tensors], itertools.accumulate((v.size for v in tensors), initial=0), strict=False))
    return [tuple(first[tensor] + i for tensor, i in product) for product in query.products]
