"""`soundproof.verify`: the command `soundproof verify` as a function."""

from __future__ import annotations

import os
import sys
from typing import Any

from graph.errors import ModelError
from specs.errors import PropertyError
from verifier.options import Options
from verifier.result import Result
from verifier.watchdog import Failure, supervise


class VerificationError(Exception):
    """The run ended without a verdict for a reason that is not the user's. Exit code 4 of the command."""


def verify(model: str | os.PathLike[str], property: str | os.PathLike[str], *, quiet: bool = True, **options: Any) -> Result:
    """Decide whether the network in file `model` satisfies the property in file `property`, in a process of its own.

    `options` are those of `verifier.options.Options` (timeout=300.0 in seconds, memory in GB, nodes, seed, threads, ...). The
    result's `verdict` is "unsat" (holds), "sat" (violated; see `witness`), "unknown" or "timed-out". Raises OptionError,
    ModelError, PropertyError, or VerificationError for an internal error. Unless `quiet`, lines for people go to stderr.
    """
    settings = Options(model_path=os.fspath(model), property_path=os.fspath(property), **options)
    ending = supervise(settings, _ignore if quiet else _to_stderr)
    if isinstance(ending, Failure):
        raise _exception(ending)
    return ending


def _exception(failure: Failure) -> Exception:
    if failure.kind == "InternalError":
        return VerificationError(failure.text)
    return PropertyError(failure.text) if failure.kind == "PropertyError" else ModelError(failure.text)


def _ignore(_: str) -> None:
    pass


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
