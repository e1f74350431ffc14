"""What the engine writes is what the checker reads: the structure of certificates here, their truth where the checker runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from exact_relu import Question, questions
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from small_networks import onnx_file, text
from test_search import KINDS, searching, slow

from graph.core import Graph, Input
from graph.evaluate import evaluate
from graph.load import Model, load
from specs.canonical import Property
from verifier import bounding, engine, presolve
from verifier.certificate import FORWARD, IncompleteProof, Recorder
from verifier.checker import certificate as reader
from verifier.checker import tree
from verifier.events import Begun, Chosen, Closed, Roots, Split
from verifier.options import Options
from verifier.problem import compile_problem
from verifier.result import Outcome

HASHES = ("1" * 64, "2" * 64)


class Cases:
    """The list of cases, as the checker's reader of structure asks for it."""

    def __init__(self, prop: Property) -> None:
        self._atoms = [len(case.atoms) for case in prop.cases]
        self._boxes = [tuple((*box.lower.index.tolist(), *box.upper.index.tolist()) for box in case.boxes) for case in prop.cases]

    def __len__(self) -> int:
        return len(self._atoms)

    def atoms(self, case: int) -> int:
        return self._atoms[case]

    def box(self, case: int) -> int:
        return self._boxes.index(self._boxes[case])

    def vacuous(self, case: int) -> bool:
        return False


def sizes(graph: Graph, found: reader.Certificate) -> list[int]:
    """How many elements the tensors of the table have."""
    sites = {node.origin.site: node for node in graph.nodes}
    inputs = {node.name: node.size for node in graph.nodes if isinstance(node, Input)}
    return [
        inputs[name.name] if name.kind == "input" else graph.nodes[sites[name.name, name.site].inputs[name.argument]].size for name in found.tensors
    ]


def recorded(net: Model, prop: Property, folder: Path, nodes: int = 400) -> tuple[Outcome, Recorder]:
    recorder = Recorder(str(folder))
    return engine.run(net, prop, Options("", "", timeout=60.0, nodes=nodes, no_attack=True, threads=1), recorder), recorder


def grown(net: Model, prop: Property, recorder: Recorder, folder: Path) -> tuple[reader.Certificate, tree.Forest]:
    """The certificate, written and read back."""
    path = folder / "proof"
    written = recorder.write(str(path), *HASHES, "real")
    data = path.read_bytes()
    found = reader.read(data, 10**8)
    assert (found.model, found.property, found.sha256, len(data)) == (*HASHES, written.sha256, written.bytes)
    return found, tree.grow(found, Cases(prop), sizes(net.graph, found))


@slow
@given(questions(), st.sampled_from(KINDS))
def test_proofs_of_drawn_questions_have_the_structure_the_checker_wants(question: Question, kind: str) -> None:
    net, prop = question.layers.onnx(), question.property()
    with tempfile.TemporaryDirectory() as folder:
        with searching(kind):
            outcome, recorder = recorded(net, prop, Path(folder))
        if outcome.verdict == "unsat":
            grown(net, prop, recorder, Path(folder))
        else:
            with pytest.raises(IncompleteProof):
                recorder.write(str(Path(folder) / "proof"), *HASHES, "real")
        recorder.close()


def network(n_in: int = 3, *operators: str) -> Model:
    """Fully connected layers of 12 neurons with these activations between them, y of 2."""
    return load(network_file(n_in, *operators))


def network_file(n_in: int, *operators: str) -> bytes:
    """The same as a file."""
    random = np.random.default_rng(3)
    nodes, at, weights, width = [], "x", {}, n_in
    for k, operator in enumerate(operators):
        weights |= {f"w{k}": random.normal(size=(width, 12)), f"b{k}": random.normal(size=12)}
        nodes += [helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [f"h{k}"]), helper.make_node(operator, [f"h{k}"], [f"r{k}"])]
        at, width = f"r{k}", 12
    weights |= {"w": random.normal(size=(12, 2)) / 4, "b": np.zeros(2)}
    return onnx_file([*nodes, helper.make_node("Gemm", [at, "w", "b"], ["y"])], n_in, 2, **weights)


def threshold(net: Model, box: list[tuple[str, str]], room: float) -> float:
    """A little below the least value of Y_0 that random points reach."""
    ends = np.array([[float(a), float(b)] for a, b in box])
    points = np.random.default_rng(0).uniform(ends[:, 0], ends[:, 1], (2000, len(box)))
    values = evaluate(net.graph, [points.astype(np.float32)])[net.graph.outputs[0]].reshape(2000, 2)[:, 0]
    return float(values.min() - room * (values.max() - values.min()))


@pytest.mark.parametrize(("operators", "neurons"), [(("LeakyRelu", "Relu"), 0.1), (("Sigmoid", "Tanh"), 0.06), (("Tanh", "Relu"), 0.03)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_proof_with_splits(operators: tuple[str, ...], neurons: float, kind: str, tmp_path: Path) -> None:
    net, box = network(3, *operators), [("-1", "1")] * 3
    limit = threshold(net, box, neurons if kind == "neurons" else 0.1)
    prop = text(box, 2, f"(or (<= Y_0 {limit:.6f}) (and (<= Y_0 {limit + 0.1:.6f}) (>= Y_1 1000.0)))")
    with searching(kind):
        outcome, recorder = recorded(net, prop, tmp_path, 20000)
    assert outcome.verdict == "unsat"
    found, forest = grown(net, prop, recorder, tmp_path)
    assert (found.op == tree.SPLIT).sum() > 2
    if kind == "neurons":
        assert (found.op == tree.WITHIN).sum() > 3
        assert found.slope.size and found.beta.size and (found.op == tree.ROWS).any()
        assert (found.beta > 0).any() or "LeakyRelu" in operators  # which takes a few splits only
        assert (forest.mode == tree.MULTIPLIERS).any()
    else:
        assert (found.op == tree.FORMS).any() and (found.op == tree.CLIP).sum() > 3
    recorder.close()
    assert [path.name for path in tmp_path.iterdir()] == ["proof"]


def test_what_was_bounded_forwards_is_checked_forwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Backward bounds of wide layers, which the engine did without, took the checker minutes (a detector of 20 pixels: 157 s, now 9)."""
    monkeypatch.setattr(bounding, "prefers_forward", lambda *_: True)
    net, box = network(3, "LeakyRelu", "Relu"), [("-1", "1")] * 3
    prop = text(box, 2, f"(<= Y_0 {threshold(net, box, 0.1):.6f})")
    with searching("neurons"):
        outcome, recorder = recorded(net, prop, tmp_path, 20000)
    assert outcome.verdict == "unsat"
    found, forest = grown(net, prop, recorder, tmp_path)
    assert (found.op == tree.ROWS).any() and not (found.op == tree.REFINE).any() and bool((forest.program & FORWARD).all())
    recorder.close()


def test_what_intervals_close_is_checked_backwards_only_where_that_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    net, box = network(3, "LeakyRelu", "Relu"), [("-1", "1")] * 3
    problem, cases = compile_problem(net.graph, text(box, 2, "(<= Y_0 -1000.0)")), np.arange(1)
    assert presolve.program_of_intervals(problem, cases) == (True, False) == presolve.program_of_intervals(problem, cases[:0])
    monkeypatch.setattr(presolve, "CHECKED_WORK", 100)
    assert presolve.program_of_intervals(problem, cases) == (False, True)
    monkeypatch.setattr(presolve, "FORWARD_MOST", 2)
    assert presolve.program_of_intervals(problem, cases) == (False, False)


def test_a_proof_with_a_hole_is_not_written(tmp_path: Path) -> None:
    net = network(1, "Relu")
    prop = text([("0", "1")], 2, "(<= Y_0 -1000.0)")
    events = [
        Begun(compile_problem(net.graph, prop)), Roots("s", np.array([0]), np.array([[0]])),
        Split("s", np.array([0]), np.array([1]), np.array([2]), np.array([0]), np.array([0]), np.array([0.5])),
        Closed("s", np.array([1]), np.array([[True]]), "bound"), Closed("s", np.array([2]), np.array([[True]]), "bound"),
    ]  # fmt: skip
    for left_out, message in ((0, "problem"), (1, None), (4, "leaves"), (3, "leaves"), (None, "")):
        recorder = Recorder(str(tmp_path))
        for k, event in enumerate([*events, Chosen("s")]):
            if k != left_out and not (left_out == 0 and k):
                recorder(event)
        if left_out is None:
            recorder.write(str(tmp_path / "proof"), *HASHES, "real")
        else:
            with pytest.raises(IncompleteProof, match=message):
                recorder.write(str(tmp_path / "proof"), *HASHES, "real")
