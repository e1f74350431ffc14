"""Errors about a model file. Every one of them is the user's to read: what happened, where, what to do."""

from __future__ import annotations


class ModelError(Exception):
    """The model cannot be read, or is not supported. Exit code 3."""


class UnsupportedOperator(ModelError):
    """The model uses an operator (or a form of one) for which there is no lowering."""


class ModelMismatch(ModelError):
    """The lowered graph and onnxruntime disagree by more than rounding explains."""


class MalformedGraph(Exception):
    """A pass broke an invariant of the core graph. Always a defect of ours. Exit code 4."""
