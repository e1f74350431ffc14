"""`soundproof.verify`: the command `soundproof verify` as a function, for files and for what a program holds; and bounds of all tensors."""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph.errors import ModelError
from specs.canonical import Property
from specs.errors import PropertyError
from specs.write import write
from verifier.options import Options
from verifier.result import Result
from verifier.watchdog import Failure, supervise

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch
    from numpy.typing import NDArray

    Model = str | os.PathLike[str] | onnx.ModelProto | torch.nn.Module
    Bounds = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]

_TEXT = ("(vnnlib-version", "(declare-")


class VerificationError(Exception):
    """The run ended without a verdict for a reason that is not the user's. Exit code 4 of the command."""


def verify(
    model: Model | Mapping[str, Model], property: str | os.PathLike[str] | Property, *, example: Any = None, quiet: bool = True, **options: Any
) -> Result:
    """Decide whether a network satisfies a property, in a process of its own.

    `model` is an ONNX file or a `ModelProto`, or a `torch.nn.Module`, which is exported with the input `example`: what it computes after `.eval()`
    (a module in training mode that computes something else is refused); of a query of several networks a mapping from their names to these.
    `property` is a VNN-LIB file, its text, or what `soundproof.untargeted` and its neighbours make. What is no file is written to a folder that
    ends with the run, or, with `certificate`, beside the certificate, which speaks of files.

    `options` are those of `verifier.options.Options` (timeout=300.0 in seconds, memory in GB, nodes, seed, threads, ...). The
    result's `verdict` is "unsat" (holds), "sat" (violated; see `witness`), "unknown" or "timed-out". Raises OptionError,
    ModelError, PropertyError, or VerificationError for an internal error. Unless `quiet`, lines for people go to stderr.
    """
    named = model if isinstance(model, Mapping) else {options.pop("network", ""): model}
    if not named:
        raise TypeError("no network is given")
    with tempfile.TemporaryDirectory(prefix="soundproof-") as folder:
        kept = options.get("certificate")
        stem = Path(folder) / "query" if kept is None else Path(kept)
        (name, first), *more = [(name, _model_file(given, example, f"{stem}{'.' if name else ''}{name}.onnx")) for name, given in named.items()]
        text = _property_file(property, f"{stem}.vnnlib")
        ending = supervise(Options(first, text, name, tuple(more), **options), _ignore if quiet else _to_stderr)
    if isinstance(ending, Failure):
        raise _exception(ending)
    return ending


def compute_bounds(model: Model, lower: Sequence[Any], upper: Sequence[Any], *, method: str = "crown", example: Any = None) -> Bounds:
    """(low, high) of every tensor of `model` by its ONNX name, flat float64 arrays with low <= h(x) <= high for all inputs in the box.

    `lower` and `upper` are one box: as many numbers as the network has inputs, in any nesting. `method`: "crown", backward linear bounds, or
    "interval". The bounds hold over the reals and include the rounding of their own computation; what cannot be bounded is infinite. Raises
    ModelError for the model, ValueError for the box or the method.
    """
    import numpy as np
    import torch

    from bounds.library import BoundedNetwork
    from graph.load import load

    with tempfile.TemporaryDirectory(prefix="soundproof-") as folder:
        loaded = load(_model_file(model, example, str(Path(folder) / "model.onnx")))
    if method not in ("crown", "interval"):
        raise ValueError(f"unknown method {method!r}; use 'interval' or 'crown'")
    net = BoundedNetwork(loaded.lowered, method="crown" if method == "crown" else "interval", dtype=torch.float64)
    low, high = (np.asarray(side, dtype=np.float64).reshape(1, -1) for side in (lower, upper))
    with torch.no_grad():
        return {name: (below[0].numpy(), above[0].numpy()) for name, (below, above) in net.all_bounds(low, high).items()}


def _model_file(model: Model, example: Any, path: str) -> str:
    """The file that a model is in, or `path`, where it is then."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    if hasattr(model, "SerializeToString"):
        Path(path).write_bytes(model.SerializeToString())
        return path
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"a model is a path, a ModelProto or a torch.nn.Module, not a {type(model).__name__}")
    if example is None:
        raise TypeError("a torch.nn.Module is exported with an input: pass it as `example`")
    inputs = example if isinstance(example, tuple) else (example,)
    if any(part.training for part in model.modules()) and _depends_on_training(model, inputs):
        raise ModelError("the module is in training mode, in which it computes something else than it will once deployed: call .eval() first")
    torch.onnx.export(model, inputs, path, dynamo=False)
    return path


def _depends_on_training(model: torch.nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Whether copies of the module, one as it is and one after `.eval()`, differ at the example or a random input like it."""
    import torch

    copies = copy.deepcopy(model), copy.deepcopy(model).eval()
    for given in (inputs, tuple(torch.randn_like(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)):
        try:
            with torch.no_grad():
                trained, deployed = (_leaves(one(*given)) for one in copies)
        except ValueError:  # as batch normalisation says it, that one example has no statistics
            return True
        if any(not torch.equal(a, b) for a, b in zip(trained, deployed, strict=True)):
            return True
    return False


def _leaves(found: Any) -> list[torch.Tensor]:
    """The tensors of a module's result."""
    import torch

    parts = found.values() if isinstance(found, Mapping) else found if isinstance(found, list | tuple) else ()
    return [found] if isinstance(found, torch.Tensor) else [x for part in parts for x in _leaves(part)]


def _property_file(property: str | os.PathLike[str] | Property, path: str) -> str:
    """The file that a property is in, or `path`, where it is then."""
    if isinstance(property, Property):
        Path(path).write_text(write(property, "1.0" if property.query is None else "2.0"), encoding="utf-8")
        return path
    given = os.fspath(property)
    if not given:
        raise PropertyError("the property is empty: pass a path, VNN-LIB text, or what a builder makes")
    if not any(word in given for word in _TEXT):
        return given
    Path(path).write_text(given, encoding="utf-8")
    return path


def _exception(failure: Failure) -> Exception:
    if failure.kind == "InternalError":
        return VerificationError(failure.text)
    return PropertyError(failure.text) if failure.kind == "PropertyError" else ModelError(failure.text)


def _ignore(_: str) -> None:
    pass


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
