"""How a model is held against onnxruntime before anything is proven of it."""

from __future__ import annotations

import numpy as np
import pytest
from small_networks import linear, text

from graph import selfcheck
from verifier import fit


@pytest.mark.parametrize(("room", "time", "points"), [(1000, 1000, 27), (10, 1000, 10), (0, 1000, 3), (1000, 12, 12), (1000, 0, 3)])
def test_large_networks_are_compared_at_fewer_points_but_always_at_the_centre_and_two_corners(
    room: int, time: int, points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tensors of a VGG-16 at 27 points took 10 GB and most of a minute; one with few channels had room for 14 points, and took 37 s."""
    net, prop, seen = linear(np.eye(2)), text([("-1", "3"), ("0", "1")], 2, "(<= Y_0 -5.0)"), []
    compare = selfcheck.compare

    def counted(model, inputs, **options):  # type: ignore[no-untyped-def]
        seen.extend(np.concatenate(x).tolist() for x in inputs)
        return compare(model, inputs, **options)

    monkeypatch.setattr(selfcheck, "compare", counted)
    monkeypatch.setattr(fit, "COMPARED_NUMBERS", room * sum(node.size for node in net.graph.nodes))
    monkeypatch.setattr(fit, "COMPARED_PRODUCTS", time * (1 + 4))
    fit.compare_with_runtime(net, prop, 0)
    assert len(seen) == points
    assert seen[:3] == [[1.0, 0.5], [-1.0, 0.0], [3.0, 1.0]]
