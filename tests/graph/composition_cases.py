"""Cases of operators that are compositions: (operator, opset, shapes of inputs, weights, attributes), as in test_lowering.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph.graph_models import floats

Case = tuple[str, int, dict[str, tuple[int, ...]], dict[str, Any], dict[str, Any]]

NORMALISATION: list[Case] = [
    ("GroupNormalization", 21, {"x": (2, 4, 3, 2)}, {"s": floats(4), "b": floats(4, seed=1)}, {"num_groups": 2, "epsilon": 0.01}),
    ("InstanceNormalization", 7, {"x": (2, 3, 4)}, {"s": floats(3), "b": floats(3, seed=1)}, {}),
    ("InstanceNormalization", 22, {"x": (1, 2, 3, 3)}, {"s": floats(2), "b": floats(2, seed=1)}, {"epsilon": 0.125}),
    ("LayerNormalization", 17, {"x": (2, 3, 4)}, {"s": floats(4), "b": floats(4, seed=1)}, {}),
    ("LayerNormalization", 17, {"x": (2, 3, 4)}, {"s": floats(3, 4)}, {"axis": 1, "epsilon": 0.01}),
    ("LogSoftmax", 7, {"x": (2, 3, 4)}, {}, {}),
    ("LogSoftmax", 11, {"x": (2, 3, 4)}, {}, {"axis": 2}),
    ("LogSoftmax", 13, {"x": (2, 3, 4)}, {}, {"axis": 1}),
    ("MeanVarianceNormalization", 9, {"x": (2, 3, 2, 2)}, {}, {}),
    ("MeanVarianceNormalization", 13, {"x": (2, 3, 4)}, {}, {"axes": [0, -1]}),
    ("RMSNormalization", 23, {"x": (2, 3, 4)}, {"s": floats(4)}, {}),
    ("RMSNormalization", 23, {"x": (2, 3, 4)}, {"s": floats(3, 4)}, {"axis": -2, "epsilon": 0.25}),
]


def recurrent(gates: int, directions: int, size: int, hidden: int, *, bias: bool = True) -> dict[str, Any]:
    """W, R and perhaps B."""
    found = {"w": 0.5 * floats(directions, gates * hidden, size), "r": 0.5 * floats(directions, gates * hidden, hidden, seed=1)}
    return found | ({"b": 0.5 * floats(directions, 2 * gates * hidden, seed=2)} if bias else {})


SHAPE = {"x": (3, 2, 4)}  # steps, batch, size
RECURRENT: list[Case] = [
    ("RNN", 7, SHAPE, recurrent(1, 1, 4, 3), {"hidden_size": 3}),
    ("RNN", 14, SHAPE, recurrent(1, 2, 4, 3), {"hidden_size": 3, "direction": "bidirectional"}),
    ("RNN", 14, SHAPE, recurrent(1, 1, 4, 3, bias=False), {"hidden_size": 3, "direction": "reverse", "activations": ["Relu"], "clip": 0.5}),
    ("RNN", 22, SHAPE, recurrent(1, 1, 4, 3), {"hidden_size": 3, "activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.25]}),
    ("RNN", 14, SHAPE, recurrent(1, 1, 4, 3), {"activations": ["ScaledTanh"], "activation_alpha": [0.5], "activation_beta": [2.0], "hidden_size": 3}),
    ("RNN", 14, SHAPE, recurrent(1, 1, 4, 3), {"activations": ["LeakyRelu"], "hidden_size": 3}),
    ("RNN", 14, SHAPE, recurrent(1, 1, 4, 3), {"activations": ["HardSigmoid"], "hidden_size": 3}),
    ("RNN", 14, SHAPE, recurrent(1, 1, 4, 3), {"activations": ["Elu"], "activation_alpha": [0.5], "hidden_size": 3}),
    ("RNN", 14, SHAPE, recurrent(1, 2, 4, 3), {"activations": ["Softsign", "Softplus"], "hidden_size": 3, "direction": "bidirectional"}),
    ("GRU", 14, SHAPE, recurrent(3, 1, 4, 3), {"activations": ["HardSigmoid", "Relu"], "activation_alpha": [0.25], "hidden_size": 3}),
    ("GRU", 7, SHAPE, recurrent(3, 1, 4, 3), {"hidden_size": 3}),
    ("GRU", 14, SHAPE, recurrent(3, 1, 4, 3), {"hidden_size": 3, "linear_before_reset": 1}),
    ("GRU", 22, SHAPE, recurrent(3, 2, 4, 2), {"hidden_size": 2, "linear_before_reset": 1, "direction": "bidirectional", "clip": 0.75}),
    ("GRU", 14, SHAPE, recurrent(3, 1, 4, 2), {"hidden_size": 2, "direction": "reverse"}),
    ("LSTM", 7, SHAPE, recurrent(4, 1, 4, 3), {"hidden_size": 3}),
    ("LSTM", 14, SHAPE, recurrent(4, 2, 4, 2), {"hidden_size": 2, "direction": "bidirectional"}),
    ("LSTM", 14, SHAPE, recurrent(4, 1, 4, 2), {"hidden_size": 2, "direction": "reverse"}),
    ("LSTM", 22, SHAPE, recurrent(4, 1, 4, 3), {"hidden_size": 3, "clip": 0.4}),
    ("LSTM", 14, SHAPE, recurrent(4, 1, 4, 3), {"hidden_size": 3, "activations": ["Sigmoid", "Relu", "Tanh"]}),
    ("LSTM", 14, SHAPE, recurrent(4, 1, 4, 3, bias=False), {"hidden_size": 3, "input_forget": 1}),
]
HEADS = {"x": (2, 2, 3, 4), "z": (2, 2, 5, 4), "v": (2, 2, 5, 3)}  # batch, heads, steps, size
ANGLES = {"c": np.cos(floats(2, 3, 2)), "s": np.sin(floats(2, 3, 2))}
ATTENTION: list[Case] = [
    ("Attention", 23, HEADS, {}, {}),
    ("Attention", 23, {"x": (1, 4, 3, 4), "z": (1, 2, 3, 4), "v": (1, 2, 3, 4)}, {}, {"is_causal": 1, "scale": 0.25}),
    ("Attention", 23, {"x": (1, 3, 8), "z": (1, 5, 4), "v": (1, 5, 6)}, {"m": floats(3, 5)}, {"q_num_heads": 4, "kv_num_heads": 2, "softcap": 2.0}),
    ("Attention", 23, {"x": (2, 2, 3, 4)}, {"k": floats(2, 2, 5, 4), "v": floats(2, 2, 5, 3), "m": floats(3, 5) > -1}, {}),
    ("Attention", 23, HEADS, {"m": np.where(np.arange(15).reshape(3, 5) % 4 == 1, -np.inf, 0).astype(np.float32)}, {}),
    ("RotaryEmbedding", 23, {"x": (2, 2, 3, 4)}, ANGLES, {}),
    ("RotaryEmbedding", 23, {"x": (2, 2, 3, 4)}, ANGLES, {"interleaved": 1}),
    ("RotaryEmbedding", 23, {"x": (2, 3, 12)}, ANGLES, {"num_heads": 2, "rotary_embedding_dim": 4}),
    ("RotaryEmbedding", 23, {"x": (1, 3, 8)}, {"c": np.cos(floats(9, 2)), "s": np.sin(floats(9, 2)), "p": np.array([[8, 0, 3]])}, {"num_heads": 2}),
]
COMPOSITIONS = [*NORMALISATION, *RECURRENT, *ATTENTION]

CONTROL = {"If", "Loop", "Scan", "SequenceMap", "Optional", "OptionalGetElement", "OptionalHasElement"}  # test_scope.py
CONTROL |= {"ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"}
CONTROL |= {"SplitToSequence"}
CONTROL |= {"BiasGelu", "FastGelu", "MultiHeadAttention", "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}
