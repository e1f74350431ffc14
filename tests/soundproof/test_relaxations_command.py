"""`soundproof relaxations` from outside: the table, its files, and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import helper
from typer.testing import CliRunner

from soundproof.cli import app
from tests.soundproof.networks import property_file, relu_network, save


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["relaxations", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_table_is_printed_and_written(tmp_path: Path) -> None:
    model, prop = relu_network(tmp_path / "m", ((1.0, -1.0), (0.5, 1.0)), (0.25, 0.0)), property_file(tmp_path / "p")
    code, out, err = run(model, prop, "--json", tmp_path / "t.json", "--picture", tmp_path / "t.svg", "--timeout", 20)
    assert code == 0 and err == ""
    for word in ("interval", "forward linear", "CROWN", "alpha-CROWN", "LP", "SDP", "exact", "neurons are undecided", "the smallest margin"):
        assert word in out, word
    plain = json.loads((tmp_path / "t.json").read_text())
    assert plain["schema"] == 1 and {row["method"]: row["bound"] for row in plain["rows"]}["exact"] is not None
    assert (tmp_path / "t.svg").read_text().startswith("<svg")


def test_what_has_no_exact_value_gets_a_dash_and_a_reason(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["y"])]
    model, prop = save(tmp_path / "m", nodes, {"w": np.eye(2)}), property_file(tmp_path / "p")
    code, out, _ = run(model, prop, "--json", tmp_path / "t.json", "--timeout", 20)
    rows = {row["method"]: row for row in json.loads((tmp_path / "t.json").read_text())["rows"]}
    assert code == 0 and rows["exact"]["bound"] is None and rows["exact"]["note"] in out


def test_errors_are_for_people(tmp_path: Path) -> None:
    model, prop = relu_network(tmp_path / "m"), property_file(tmp_path / "p")
    nothing = property_file(tmp_path / "q", "")
    for arguments, code, word in (
        ((tmp_path / "none", prop), 3, "none"),
        ((model, tmp_path / "none"), 3, "none"),
        ((model, nothing), 3, "nothing to bound"),
        ((model, prop, "--case", 7), 3, "there is no case 7"),
        ((model, prop, "--timeout", 0), 2, "--timeout"),
        ((model, prop, "--timeout", "nan"), 2, "--timeout"),
        ((model, prop, "--picture", tmp_path / "t.png"), 2, "SVG"),
        ((model, prop, "--json", tmp_path / "no" / "t.json"), 2, "cannot be written"),
    ):
        got, _, err = run(*arguments)
        assert (got, word in err, "Traceback" in err) == (code, True, False), (arguments, got, err)
