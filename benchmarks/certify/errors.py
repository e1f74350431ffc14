"""What can be wrong with a campaign, and the exit code that says so (DESIGN 10)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CertifyError(Exception):
    """A campaign cannot go on; the text says what happened, where, and what to do."""

    exit_code = 3


class UsageError(CertifyError):
    """Options or a policy that mean nothing, or a folder that cannot be used. Exit code 2."""

    exit_code = 2


class InputError(CertifyError):
    """A model or data that cannot be used. Exit code 3."""


class Stopped(CertifyError):
    """The campaign ended before its end (interrupted, or the disk is full); what is done is kept, the same command continues. Exit code 20."""

    exit_code = 20


def unknown_key(place: str, key: str, known: Iterable[str]) -> UsageError:
    """The error for a key that means nothing, with what may have been meant."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    return UsageError(f"{place}: unknown key {key!r}; {hint}")
