"""The same in a test suite: `assert_certified` comes with Soundproof, as a plugin of pytest."""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def test_the_model_is_robust_around_its_samples(assert_certified):
    samples = np.load(HERE / "samples.npz")
    assert_certified(HERE / "model.onnx", samples["X"], samples["y"], linf=0.05, at_least=0.9, nodes=20000)
