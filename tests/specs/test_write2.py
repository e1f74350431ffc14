"""The writer of VNN-LIB 2.0: what it writes reads back as the same networks and cases, whatever was read; and what it refuses."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from specs import build
from specs.canonical import Property
from specs.errors import PropertyError
from specs.vnnlib import parse
from specs.write import write
from tests.effort import examples
from tests.specs import queries
from tests.verifier import composed
from tests.vnnlib2 import standard
from tests.vnnlib2.make import CORPUS
from verifier.checker import read_property2


def meaning(found: Property) -> tuple[Any, ...]:
    """Everything that a property says, as comparable data."""
    cases = [
        ([(box.tensor, [(box.lower[i], box.upper[i]) for i in range(len(box.lower))]) for box in case.boxes],
         sorted((sorted(atom.terms), atom.bound, atom.strict) for atom in case.atoms))
        for case in found.cases
    ]  # fmt: skip
    return found.inputs, found.outputs, found.query, found.network, cases


def written(found: Property) -> str:
    """Its text; numbers that are no finite decimal are left to another test."""
    try:
        return write(found, "2.0")
    except PropertyError as error:
        assume("no finite decimal" not in str(error))
        raise


@settings(max_examples=examples(150))
@given(st.lists(queries.formulas, min_size=1, max_size=3))
def test_one_network(asserted: list[object]) -> None:
    found = parse(queries.asserted(asserted, 2))
    assert meaning(parse(written(found))) == meaning(found) or not len(found.cases)
    assert len(parse(written(found)).cases) == len(found.cases)


@settings(max_examples=examples(100))
@given(st.lists(composed.formulas, min_size=1, max_size=2), composed.equalities, st.sampled_from(["", "(isomorphic-to f)"]))
def test_several_networks(asserted: list[Any], equal: list[tuple[str, str]], relation: str) -> None:
    try:
        found = parse(composed.text_of(asserted, equal, relation))
    except PropertyError as error:
        assume("multiplied out" not in str(error) and "variables" not in str(error))
        raise
    again = parse(written(found))
    if len(found.cases) > 1:  # a single case is asserted as it stands: inputs that it makes equal become one
        assert meaning(again)[4] == meaning(found)[4] and (again.inputs, again.query.networks) == (found.inputs, found.query.networks)  # type: ignore[union-attr]
    assert len(again.cases) == len(found.cases)
    theirs = read_property2.read(write(found, "2.0").encode())
    assert isinstance(theirs, read_property2.Query) and len(theirs.cases) == len(found.cases)


def test_a_built_property_in_the_shapes_of_its_network() -> None:
    found = build.untargeted(build.linf_box(["0.5", "0.6"], "0.05"), 0, 3)
    text = write(found, "2.0", {"X": (1, 2), "Y": (1, 3)})
    assert text.startswith("(vnnlib-version <2.0>)\n(declare-network N\n  (declare-input X real [1,2])\n  (declare-output Y real [1,3]))\n")
    again = parse(text)
    assert meaning(again)[4] == meaning(found)[4] and [v.shape for v in (*again.inputs, *again.outputs)] == [(1, 2), (1, 3)]
    assert [v.shape for v in parse(write(found, "2.0")).inputs] == [(2,)]


REFUSED = {
    "a version": ("cannot be written", lambda: write(build.output_range(build.box([0], [1]), [0], [1]), "3.0")),
    "a shape": ("has 2 elements", lambda: write(build.output_range(build.box([0, 0], [1, 1]), [0], [1]), "2.0", {"X": (3,)})),
    "no output": ("needs an output", lambda: write(parse("(declare-const X_0 Real)(assert (and (>= X_0 0) (<= X_0 1)))"), "2.0")),
    "a third": ("no finite decimal", lambda: write(build.output_range(build.box([0], [Fraction(1, 3)]), [0], [1]), "2.0")),
    "several tensors in 1.0": ("one input X and one output Y, not A, S, P, Q", lambda: write(parse(queries.asserted([("<=", ["S", "1"])], 2)))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written(name: str) -> None:
    message, attempt = REFUSED[name]
    with pytest.raises(PropertyError, match=message):
        attempt()


DECIDED = {name: entry.text for name, entry in CORPUS.items() if not entry.refused}


@pytest.mark.parametrize("name", DECIDED)
def test_the_corpus(name: str) -> None:
    found = parse(DECIDED[name])
    assert meaning(parse(write(found, "2.0"))) == meaning(found) or not len(found.cases)


@pytest.mark.slow
def test_the_standard_s_own_parser_takes_what_is_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    one_type = {name: text for name, text in DECIDED.items() if name != "float32 and real together"}  # which the standard does not compare
    texts = [write(parse(text), "2.0") for text in one_type.values()]

    @settings(max_examples=300, database=None)
    @given(st.lists(composed.formulas, min_size=1, max_size=2), composed.equalities, st.lists(queries.formulas, min_size=1, max_size=3))
    def collect(several: list[Any], equal: list[tuple[str, str]], one: list[object]) -> None:
        texts.append(written(parse(queries.asserted(one, 2))))
        try:
            texts.append(written(parse(composed.text_of(several, equal))))
        except PropertyError as error:  # limits on products
            assume("multiplied out" not in str(error) and "variables" not in str(error))
            raise

    collect()
    refused = [text for text, taken in zip(texts, standard.accepted(texts, tmp_path_factory), strict=True) if not taken]
    assert len(texts) > 400 and not refused, refused[0]
