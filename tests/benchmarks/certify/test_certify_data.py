"""Data sets are read exactly, and every defect is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.certify import data
from benchmarks.certify.data import Columns, Samples
from benchmarks.certify.errors import CertifyError, InputError, UsageError


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_npz_with_ids(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.arange(8, dtype=np.uint8).reshape(2, 2, 2), labels=[1, 0], ids=["a", "b"])
    found = data.read(tmp_path / "d.npz")
    assert found.ids == ("a", "b") and found.shape == (2, 2) and found.values.dtype == np.float32
    assert found.labels is not None and found.labels.tolist() == [1, 0] and found.values[1].tolist() == [[4, 5], [6, 7]]


def test_npy_with_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    np.save(tmp_path / "y.npy", np.asarray([0, 1, 2]))
    assert data.read(tmp_path / "x.npy").labels is None
    found = data.read(tmp_path / "x.npy", tmp_path / "y.npy")
    assert found.labels is not None and found.labels.tolist() == [0, 1, 2]


def test_a_table_is_rounded_once_from_its_decimals(tmp_path: Path) -> None:
    halfway = "1.00000005960464477540"  # above the middle of 1 and its neighbour, which a double is not
    found = data.read(csv(tmp_path, f"id,age,pay,label\nx,{halfway},-2e3,yes\ny,0.1,3,no\n"), columns=Columns(classes=("no", "yes")))
    assert found.values[0, 0] == np.nextafter(np.float32(1), np.float32(2)) and found.values[1, 0] == np.float32(0.1)
    assert found.features == ("age", "pay") and found.labels is not None and found.labels.tolist() == [1, 0]


def test_columns_are_chosen_and_shaped(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b,c,d,y\n1,2,3,4,0\n")
    found = data.read(path, columns=Columns(label="y", features=("d", "a")))
    assert found.values.tolist() == [[4, 1]] and found.features == ("d", "a")
    assert data.read(path, columns=Columns(label="y", shape=(2, 2))).shape == (2, 2)


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.table({"age": [0.1, 2.5], "n": [3, 4], "label": [0, 1]}), tmp_path / "d.parquet")
    found, same = data.read(tmp_path / "d.parquet"), data.read(csv(tmp_path, "age,n,label\n0.1,3,0\n2.5,4,1\n"))
    assert np.array_equal(found.values, same.values) and found.features == same.features
    parquet.write_table(pyarrow.table({"age": [0.1, None], "label": [0, 1]}), tmp_path / "d.parquet")
    with pytest.raises(InputError, match="column 'age' is empty"):
        data.read(tmp_path / "d.parquet")


def images(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "i" / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 5, 3), 10 * number, np.uint8)).save(tmp_path / "i" / name / "1.png")
    return tmp_path / "i"


def test_a_folder_of_classes(tmp_path: Path) -> None:
    found = data.read(images(tmp_path))
    assert found.ids == ("cat/1.png", "dog/1.png") and found.shape == (4, 5, 3) and found.classes == ("cat", "dog")
    assert found.labels is not None and found.labels.tolist() == [0, 1] and found.values[1].max() == 10


def test_a_folder_with_a_list(tmp_path: Path) -> None:
    folder = images(tmp_path)
    (folder / "labels.csv").write_text("file,label\ndog/1.png,7\n")
    found = data.read(folder)
    assert found.ids == ("dog/1.png",) and found.labels is not None and found.labels.tolist() == [7]


def broken_image(folder: Path) -> None:
    (folder / "cat" / "1.png").write_bytes(b"\x89PNG no")


def other_size(folder: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "dog" / "1.png")


def no_such_file(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\nbird.png,0\n")


def no_label(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\ncat/1.png,\n")


def outside(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\n../../x.png,1\n")


@pytest.mark.parametrize(("spoil", "text"), [
    (broken_image, "1.png: the image cannot be decoded"), (other_size, "all must be alike"), (no_such_file, "bird.png: there is no such image"),
    (no_label, "line 2: a file or a label is missing"), (outside, "outside of the folder"),
])
def test_images_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], None], text: str) -> None:
    folder = images(tmp_path)
    spoil(folder)
    with pytest.raises(InputError, match=text):
        data.read(folder)


@pytest.mark.parametrize(("text", "message"), [
    ("", "an empty table"), ("a,label\n", "no samples"), ("a,label\n1\n", "line 2: 1 values"), ("a,label\n,0\n", "column 'a' is empty"),
    ("a,label\nx,0\n", "holds 'x', which is no number"), ("a,label\nnan,0\n", "no number"), ("a,label\n1,\n", "sample 0 has no label"),
    ("a,label\n1,cat\n", "name the classes"), ("id,a,label\nq,1,0\nq,2,0\n", "the id 'q' occurs twice"), ("a,a\n1,2\n", "two columns"),
    ("a,label\n1e39,0\n", "too large for float32"),
])
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.read(csv(tmp_path, text))


def test_arrays_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    for arrays, message in (
        ({"X": np.ones((2, 3)), "y": [1]}, "2 samples and 1 labels"), ({"z": np.ones(3)}, "no array X or"), ({"X": np.ones(3)}, "one row a sample"),
        ({"X": np.asarray([[1.0], [np.nan]])}, "1 samples with NaN.*'1'"), ({"X": np.asarray([[1e300]])}, "too large for float32"),
        ({"X": np.asarray([["a"]])}, "expected numbers"), ({"X": np.ones((2, 1)), "ids": ["a", "a"]}, "occurs twice"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=message):
            data.read(path)
    path.write_bytes(b"PK\x03\x04 no")
    with pytest.raises(InputError, match="not a file of numpy arrays"):
        data.read(path)


def test_files_that_are_no_data_set(tmp_path: Path) -> None:
    for name, kind in (("missing.npz", InputError), ("d.txt", UsageError)):
        if kind is UsageError:
            (tmp_path / name).write_text("")
        with pytest.raises(kind):
            data.read(tmp_path / name)
    with pytest.raises(CertifyError, match="--labels goes with"):
        data.read(csv(tmp_path, "a\n1\n"), labels=tmp_path / "y.npy")


def test_values_outside_of_the_declared_range(tmp_path: Path) -> None:
    samples = Samples(("a", "b"), np.asarray([[0.1, 1.0], [0.5, 1.25]], np.float32), None, ("p", "q"))
    from fractions import Fraction

    data.in_range(tmp_path, samples, Fraction(1, 10), Fraction(5, 4))  # 0.1 as a float32 is above 1/10's double: both are rounded
    with pytest.raises(InputError, match=r"1 samples.*'b', column 'q': 1.25"):
        data.in_range(tmp_path, samples, Fraction(0), Fraction(1))
