"""Adam's moments against torch's own, and that no search has to import torch's compiler for them."""

import subprocess
import sys
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from test_within import question

from verifier.adam import Moments


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_moves_as_torch_does(seed: int, steps: int) -> None:
    """The same path over a fixed sum of squares, with the rate of each step given from outside."""
    torch.manual_seed(seed)
    centre, start = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    theirs = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.1)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9)
    ours, moments = start.clone(), Moments.at_start(start)
    for step in range(steps):
        optimiser.zero_grad()
        (theirs - centre).square().sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        decay.step()
        ours += 0.1 * 0.9**step * moments.direction(-2 * (ours - centre))
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-12)


def test_rows_are_independent() -> None:
    """Selected rows go on as they would have among all."""
    torch.manual_seed(0)
    gradients, keep = torch.randn(4, 6, 3), torch.tensor([True, False, True, True, False, False])
    everything = Moments.at_start(gradients[0])
    for gradient in gradients[:2]:
        everything.direction(gradient)
    part = everything.select(keep)
    for gradient in gradients[2:]:
        assert torch.equal(part.direction(gradient[keep]), everything.direction(gradient)[keep])


SEARCH = """
import dataclasses, sys
from graph.load import load
from specs.vnnlib import parse
from verifier import engine, portfolio
from verifier.options import Options
model, prop = sys.argv[1:]
portfolio.CONSTANTS = dataclasses.replace(portfolio.CONSTANTS, trial_nodes=0, input_split_most=-1)
found = engine.run(load(open(model, "rb").read()), parse(open(prop).read(), prop), Options(model, prop, timeout=60.0), lambda event: None)
assert found.verdict == "unsat" and found.nodes > 1, found
sys.exit("torch._dynamo" in sys.modules)
"""


def test_a_search_does_without_torchs_compiler(tmp_path: Path) -> None:
    """Its import takes longer than most searches; torch.optim, for one, makes it on first use."""
    model, prop = question(1, 0.02, 24)
    (tmp_path / "m.onnx").write_bytes(model)
    (tmp_path / "p.vnnlib").write_text(prop)
    done = subprocess.run([sys.executable, "-c", SEARCH, str(tmp_path / "m.onnx"), str(tmp_path / "p.vnnlib")], check=False)
    assert done.returncode == 0
