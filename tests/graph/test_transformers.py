"""Transformer operators of com.microsoft, compared with onnxruntime, which defines them; refused forms."""

from __future__ import annotations

import numpy as np
import pytest
from graph_models import floats

from graph.errors import ModelError, UnsupportedOperator
from graph.load import load
from graph.selfcheck import compare
from tests.graph.transformer_cases import FORMS, HEADS, SIZED, Form, content


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0]}-{len(form[2])}-{form[5]}")
def test_operator_agrees_with_onnxruntime(form: Form) -> None:
    loaded = load(content(form))
    points = [[floats(*info.shape, seed=3 * k + i) for i, info in enumerate(loaded.inputs)] for k in range(3)]
    found = compare(loaded, points)
    assert found.compared > 0 and found.skipped == 0


def test_refusals() -> None:
    mask = {"w": 0.5 * floats(8, 24), "b": floats(24), "m": np.array([[1, 1, 0]], np.int32)}
    with pytest.raises(UnsupportedOperator, match="padding"):
        load(content(("Attention", {"x": (1, 3, 8)}, ["x", "w", "b", "m"], mask, {"num_heads": 2}, 1)))
    with pytest.raises(UnsupportedOperator, match="rotary"):
        load(content(("Attention", SIZED, ["x", "w", "b"], mask, {"num_heads": 2, "do_rotary": 1}, 1)))
    with pytest.raises(ModelError, match="heads"):
        load(content(("MultiHeadAttention", HEADS, ["x", "k", "v"], {}, {"num_heads": 3}, 1)))
    with pytest.raises(UnsupportedOperator, match="packed"):
        load(content(("MultiHeadAttention", {"x": (1, 3, 8), "k": (1, 3, 2, 4)}, ["x", "k", "k"], {}, {"num_heads": 2}, 1)))
    with pytest.raises(UnsupportedOperator, match="alpha"):
        load(content(("QuickGelu", SIZED, ["x"], {}, {"alpha": 0.0}, 1)))
