"""Every query of the corpus is decided as it says, and confirmed by the second program; or refused by both readers, with its message and place."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import ModelError
from specs.errors import PropertyError
from specs.vnnlib import parse
from tests.soundproof.test_command import in_process
from tests.verifier.composed import Asked
from tests.vnnlib2 import standard
from tests.vnnlib2.make import CORPUS, NETWORKS, PAGE, PRODUCTIONS, REFUSED_TYPES, THEORIES, Entry, file_name, main, page
from verifier.checker import compose, read_model, read_property2
from verifier.checker.refusal import Refusal

DECIDED = [name for name, entry in CORPUS.items() if not entry.refused]
REFUSED = [name for name, entry in CORPUS.items() if entry.refused and not entry.by_file]
UNFIT = [name for name, entry in CORPUS.items() if entry.by_file]


def files(entry: Entry) -> dict[str, bytes]:
    return {name: NETWORKS[file] for name, file in entry.models.items()}


@pytest.mark.parametrize("name", DECIDED)
def test_a_query_is_decided(name: str, tmp_path: Path) -> None:
    entry = CORPUS[name]
    asked = Asked(tmp_path, entry.text, **files(entry))
    verdict, word = asked.decide("float32" if asked.property.asks_for_float32 else "real")
    assert verdict == entry.answer and word.startswith("ACCEPTED" if verdict == "unsat" else "confirmed"), word


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_text_is_refused_with_its_place(name: str) -> None:
    entry = CORPUS[name]
    with pytest.raises(PropertyError) as caught:
        parse(entry.text)
    assert entry.answer in str(caught.value) and caught.value.line is not None and caught.value.column is not None
    with pytest.raises(Refusal):
        read_property2.read(entry.text.encode())


@pytest.mark.parametrize("name", UNFIT)
def test_a_file_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    entry = CORPUS[name]
    with pytest.raises((PropertyError, ModelError)) as caught:
        Asked(tmp_path, entry.text, **files(entry))
    assert entry.answer in str(caught.value)
    query = read_property2.read(entry.text.encode())
    with pytest.raises(Refusal):
        compose.network_of(query, [read_model.read(files(entry)[file.name], file.hidden) for file in compose.files(query)])


def test_the_corpus_is_whole_and_can_be_written(tmp_path: Path) -> None:
    """Every production of the grammar and every theory has a query, and `soundproof supports` names what the corpus decides, and nothing else."""
    assert all(any(name.startswith(production) for name in PRODUCTIONS) for production in standard.PRODUCTIONS)
    for flag, values in standard.THEORIES.items():
        said = in_process("supports", flag)[1].split()
        for value in values:
            decided = [name for name in THEORIES if name.split(":")[0].split(",")[0] == value and not THEORIES[name].refused]
            assert bool(decided) == (value in said), (flag, value)
        assert set(said) <= set(values), (flag, said)
    assert len({file_name(name) for name in CORPUS}) == len(CORPUS) == main(tmp_path)
    code, out, err = in_process("verify", str(tmp_path / "InitializedOption_2_1.vnnlib"), "--network", f"f={tmp_path / 'f.onnx'}")
    assert (code, out) == (3, "") and "line 2, column " in err and "`initialized` is not supported" in err
    assert "2.1" not in in_process("supports", "--vnnlib-versions")[1].split()  # which is where `initialized` is from
    assert not REFUSED_TYPES.keys() & set(in_process("supports", "--onnx-element-types")[1].split())


def test_the_page_says_what_the_corpus_says() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert page(written) == written, "python -m tests.vnnlib2.make writes it"


@pytest.mark.slow
def test_the_standard_s_own_parser_takes_the_same_texts(tmp_path_factory: pytest.TempPathFactory) -> None:
    taken = standard.accepted([entry.text for entry in CORPUS.values()], tmp_path_factory)
    assert {name: word for name, word in zip(CORPUS, taken, strict=True)} == {name: entry.standard for name, entry in CORPUS.items()}
