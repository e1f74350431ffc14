"""The checker as a process: how it ends, what it prints, what it imports. Faults are planted by lines of Python run before it starts."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from graph.load import load
from tests.checker import small
from tests.checker.build import Draft, leaf, pack, split

ROOT = Path(__file__).resolve().parents[2]
START = "import runpy, sys; sys.path.append({root!r}); {before}; sys.argv[0] = 'checker'; runpy.run_module('verifier.checker', run_name='__main__')"


@dataclass(frozen=True)
class Ended:
    code: int
    lines: list[str]
    errors: str

    @property
    def word(self) -> str:
        return self.lines[-1].split(" ", 1)[0]

    @property
    def facts(self) -> dict[str, str]:
        found = json.loads(self.lines[-1].split(" ", 1)[1])
        assert isinstance(found, dict)
        return found


def run(*arguments: object, before: str = "pass", cwd: Path | None = None, stdout: object = subprocess.PIPE) -> Ended:
    command = [sys.executable, "-I", "-c", START.format(root=str(ROOT), before=before), *map(str, arguments)]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, cwd=cwd)  # type: ignore[call-overload]
    return Ended(done.returncode, (done.stdout or "").splitlines(), done.stderr)


@dataclass(frozen=True)
class Files:
    model: Path
    property: Path
    certificate: Path

    def all(self) -> tuple[Path, Path, Path]:
        return self.model, self.property, self.certificate


MODEL, SAFE, UNSAFE = small.model(), small.text("(>= Y_0 4.5)"), small.text("(>= Y_0 1.5)")


def draft(model: bytes = MODEL, text: bytes = SAFE) -> Draft:
    """One tree for one case: intervals give Y <= 4 everywhere."""
    found = Draft(model, text)
    x = found.input("X")
    found.tree([0], split(x, 1, 0.25, leaf(), leaf()), program=1)
    return found


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return written(tmp_path, MODEL, SAFE, draft().bytes())


def written(folder: Path, model: bytes, text: bytes, certificate: bytes) -> Files:
    folder.mkdir(exist_ok=True)
    found = Files(folder / "model.onnx", folder / "p.vnnlib", folder / "c")
    for path, data in zip(found.all(), (model, text, certificate), strict=True):
        path.write_bytes(data)
    return found


def test_an_accepted_certificate(files: Files) -> None:
    ended = run(*files.all())
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (files.certificate, files.model, files.property)]
    wanted = {**dict(zip(("certificate", "model", "property"), hashes, strict=True)), "semantics": "real"}
    assert (ended.code, len(ended.lines), ended.word, ended.facts) == (0, 1, "ACCEPTED", wanted), ended.errors


def test_options_do_not_change_the_answer(files: Files) -> None:
    ended = run(*files.all(), "--memory", 1, "--threads", 1, "--timeout", 50, "--limit-bytes", 2000)
    assert (ended.code, ended.word) == (0, "ACCEPTED"), ended


def test_float32(tmp_path: Path) -> None:
    found = draft()
    found.semantics = "float32"
    ended = run(*written(tmp_path, MODEL, SAFE, found.bytes()).all())
    assert (ended.code, ended.word, ended.facts["semantics"]) == (0, "ACCEPTED", "float32"), ended
    assert "activations in float32: onnxruntime" in ended.errors


def test_a_violated_property(tmp_path: Path) -> None:
    ended = run(*written(tmp_path, MODEL, UNSAFE, draft(MODEL, UNSAFE).bytes()).all())
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", "leaf"), ended


def test_every_leaf_that_is_not_closed_is_diagnosed(tmp_path: Path) -> None:
    text = small.text("(>= Y_0 -4.5)")
    ended = run(*written(tmp_path, MODEL, text, draft(MODEL, text).bytes()).all(), "--diagnose", tmp_path / "d")
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", "open"), ended
    lines = [json.loads(line) for line in (tmp_path / "d").read_text().splitlines()]
    assert sorted((line["node"], line["rule"], line["cases"], line["lower"], line["upper"]) for line in lines) == [
        (1, "leaf", [0], [-1.0, -1.0], [1.0, 0.25]), (2, "leaf", [0], [-1.0, 0.25], [1.0, 1.0]),
    ]  # fmt: skip
    assert all(float(line["best"]) < 0 for line in lines)


def test_a_split_outside_its_box_is_diagnosed_and_the_rest_is_checked(tmp_path: Path) -> None:
    found = Draft(MODEL, SAFE)
    x = found.input("X")
    found.tree([0], split(x, 1, 0.25, split(x, 1, 0.5, leaf(), leaf()), split(x, 1, 0.5, leaf(), leaf())), program=1)
    files = written(tmp_path, MODEL, SAFE, found.bytes()).all()
    assert run(*files).facts["rule"] == "threshold"
    ended = run(*files, "--diagnose", tmp_path / "d")
    assert (ended.word, ended.facts["rule"]) == ("REJECTED", "open") and "7 of 7 nodes" in ended.facts["place"]
    (line,) = (json.loads(line) for line in (tmp_path / "d").read_text().splitlines())
    assert (line["node"], line["rule"], line["lower"], line["upper"]) == (1, "threshold", [-1.0, -1.0], [1.0, 0.25])


def named(name: str) -> bytes:
    found = draft()
    found.input(name)
    return found.bytes()


CUT, BROKEN = b"\0\1\2", b"(assert"
REFUSED: dict[str, tuple[str, str, bytes, bytes, bytes]] = {
    "violated": ("REJECTED", "leaf", MODEL, UNSAFE, draft(MODEL, UNSAFE).bytes()),
    "made for another model": ("MALFORMED", "hash", MODEL, SAFE, draft(b"other").bytes()),
    "made for another property": ("MALFORMED", "hash", MODEL, SAFE, draft(text=b"other").bytes()),
    "no certificate": ("MALFORMED", "zip", MODEL, SAFE, b"PK"),
    "no model": ("REJECTED", "unsupported-model", CUT, SAFE, draft(CUT).bytes()),
    "no property": ("REJECTED", "unsupported-property", MODEL, BROKEN, draft(text=BROKEN).bytes()),
    "a name that imitates a line": ("MALFORMED", "tensors", MODEL, SAFE, named('X"}\nACCEPTED {"semantics": "real"}\r\n\u2028ACCEPTED')),
    "a name that is no text": ("MALFORMED", "tensors", MODEL, SAFE, named("\ud800")),
    "a very long name": ("MALFORMED", "tensors", MODEL, SAFE, named("X" * 10_000)),
    "gzip, cut off": ("REJECTED", "file", MODEL, gzip.compress(SAFE)[:-9], draft().bytes()),
    "gzip and more": ("REJECTED", "file", MODEL, gzip.compress(SAFE) + b"x", draft().bytes()),
    "two gzip streams": ("REJECTED", "file", MODEL, gzip.compress(SAFE) * 2, draft().bytes()),
    "no gzip": ("REJECTED", "file", MODEL, b"\x1f\x8bnothing", draft().bytes()),
}


def test_refusals(tmp_path: Path) -> None:
    """All in one batch: one line each, whatever the files hold."""
    entries = [written(tmp_path / str(k), *data) for k, (_, _, *data) in enumerate(REFUSED.values())]
    ended = run("--batch", listed(tmp_path, entries))
    assert (ended.code, len(ended.lines)) == (5, len(REFUSED)), ended
    for line, (name, (word, rule, *_)) in zip(ended.lines, REFUSED.items(), strict=True):
        facts = json.loads(line.removeprefix(word))
        assert (facts.keys(), facts["rule"]) == ({"rule", "place"}, rule), name
        assert line.isascii() and len(line) < 2000


def listed(folder: Path, entries: list[Files]) -> Path:
    path = folder / "list"
    path.write_text("".join("\t".join(map(str, entry.all())) + "\n" for entry in entries))
    return path


def test_vacuous_cases_are_reported(tmp_path: Path) -> None:
    text = small.text("(or (>= Y_0 4.5) (and (>= X_0 2) (>= Y_0 0)))")
    ended = run(*written(tmp_path, MODEL, text, draft(MODEL, text).bytes()).all())
    assert (ended.code, ended.word) == (0, "ACCEPTED"), ended
    assert "1 cases are vacuous" in ended.errors
    text = small.text("(and (>= X_0 2) (>= Y_0 0))")
    ended = run(*written(tmp_path, MODEL, text, Draft(MODEL, text).bytes()).all())
    assert (ended.code, ended.word) == (0, "ACCEPTED"), ended
    assert "no other case is left" in ended.errors


def test_softmax_shifts(tmp_path: Path) -> None:
    """Intervals say that the share of the first is below 4; rows may be shifted by anything that lets exp stay finite."""
    model, text = small.softmax_model(), small.text("(>= Y_0 5)")
    entries = []
    for k, (shift, word) in enumerate((([0.0], "ACCEPTED"), ([0.75], "ACCEPTED"), ([-2000.0], "REJECTED"), ([], "MALFORMED"))):
        found = Draft(model, text, shift=shift)
        found.site("s", 2, 1)
        found.tree([0], leaf())
        entries.append((written(tmp_path / str(k), model, text, found.bytes()), word))
    ended = run("--batch", listed(tmp_path, [entry for entry, _ in entries]))
    assert [line.split(" ")[0] for line in ended.lines] == [word for _, word in entries], ended


# -------------------------------------------------------------------- files


def test_gzip_files(tmp_path: Path) -> None:
    files = written(tmp_path, gzip.compress(MODEL), gzip.compress(SAFE), draft().bytes())
    assert run(*files.all()).word == "ACCEPTED"


def outside(folder: Path, location: str = "w.bin", **entries: str) -> Files:
    """The accepted certificate, for a model whose first initialiser is in another file, 3 bytes from its beginning."""
    model = onnx.ModelProto.FromString(MODEL)
    tensor = model.graph.initializer[0]
    data = b"pad" + tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "3", "length": str(len(data) - 3), **entries}.items():
        tensor.external_data.add(key=key, value=value)
    proof = draft(model.SerializeToString())
    hashes = [hashlib.sha256(content).hexdigest() for content in (model.SerializeToString(), data)]
    manifest = proof.manifest() | {"model": hashlib.sha256("".join(hashes).encode()).hexdigest()}
    found = written(folder, model.SerializeToString(), SAFE, pack(manifest, proof.columns()))
    (folder / "w.bin").write_bytes(data)
    return found


def test_external_data(tmp_path: Path) -> None:
    files = outside(tmp_path)
    ended = run(*files.all())
    assert (ended.code, ended.word) == (0, "ACCEPTED"), ended
    assert load(files.model).sha256 == ended.facts["model"]
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1  # not even a number of the network
    (tmp_path / "w.bin").write_bytes(data)
    ended = run(*files.all())
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "MALFORMED", "hash")


BESIDE = {
    "outside the folder": ({"location": "../w.bin"}, "file"), "absolute": ({"location": "/etc/passwd"}, "file"),
    "a link": ({"location": "link.bin"}, "file"),
    "not there": ({"location": "v.bin"}, "file"), "too long": ({"length": "1000000"}, "unsupported-model"),
    "behind the end": ({"offset": "1000000"}, "unsupported-model"), "before the beginning": ({"offset": "-3"}, "unsupported-model"),
    "no number": ({"offset": "three"}, "unsupported-model"), "too short": ({"length": "4"}, "unsupported-model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_external_data_that_is_refused(name: str, tmp_path: Path) -> None:
    entries, rule = BESIDE[name]
    (tmp_path / "m").mkdir()
    (tmp_path / "w.bin").write_bytes(b"")
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "w.bin")
    ended = run(*outside(tmp_path / "m", **entries).all())
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", rule), ended


def test_a_file_over_the_limit(files: Files) -> None:
    assert run(*files.all(), before="import verifier.checker.main as m; m.FILE_BYTES = 100").facts["rule"] == "file"
    files.property.write_bytes(gzip.compress(SAFE * 1000))
    assert run(*files.all(), before="import verifier.checker.main as m; m.FILE_BYTES = 5000").facts["rule"] == "file"
    assert run(*files.all(), "--limit-bytes", 10).word == "REJECTED"


def test_a_missing_file(files: Files) -> None:
    files.certificate.unlink()
    ended = run(*files.all())
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", "file")
    assert run(files.model, files.model.parent, files.property).facts["rule"] == "file"


def test_a_module_in_the_working_directory_is_not_imported(files: Files) -> None:
    for name in ("onnx", "numpy", "json", "verifier"):
        (files.model.parent / f"{name}.py").write_text("raise SystemExit(0)\n")
    assert run(*files.all(), cwd=files.model.parent).word == "ACCEPTED"


# -------------------------------------------------------------------- the command line


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_three_files_are_needed(files: Files, count: int) -> None:
    ended = run(*[*files.all(), files.model][:count])
    assert (ended.code, ended.lines) == (2, [])


@pytest.mark.parametrize("option", ["memory=0", "memory=nan", "timeout=-1", "threads=-1", "limit-bytes=0", "arithmetic=float32", "trust"])
def test_bad_options(files: Files, option: str) -> None:
    ended = run(*files.all(), f"--{option}")
    assert (ended.code, ended.lines) == (2, [])


def test_a_batch(tmp_path: Path) -> None:
    """One line each, in order; good only if all are accepted."""
    good = written(tmp_path / "good", MODEL, SAFE, draft().bytes())
    bad = written(tmp_path / "bad", MODEL, UNSAFE, draft(MODEL, UNSAFE).bytes())
    broken = written(tmp_path / "broken", MODEL, SAFE, b"")
    models = [small.model(k) for k in (2, 3, 4, 5, 6)]  # more than are kept
    more = [written(tmp_path / str(k), model, small.text("(>= Y_0 30)"), b"") for k, model in enumerate(models)]
    for files, model in zip(more, models, strict=True):
        files.certificate.write_bytes(draft(model, small.text("(>= Y_0 30)")).bytes())
    words = {good: "ACCEPTED", bad: "REJECTED", broken: "MALFORMED", **dict.fromkeys(more, "ACCEPTED")}
    for entries, code in (([good, bad, broken, *more, good], 5), ([good, *more, good], 0), ([bad], 5)):
        ended = run("--batch", listed(tmp_path, entries))
        assert ended.code == code, ended
        assert [line.split(" ")[0] for line in ended.lines] == [words[entry] for entry in entries]


@pytest.mark.parametrize("text", ["", "a\tb\n", "a b c\n", None])
def test_bad_batches(files: Files, text: str | None) -> None:
    path = files.model.parent / "list"
    if text is not None:
        path.write_text(text)
    ended = run("--batch", path)
    assert (ended.code, ended.lines) == (2, [])
    assert run("--batch", path, *files.all()).code == 2


# -------------------------------------------------------------------- faults

PLANT = "import verifier.checker.main as m; m.walk.check = lambda *a: {}"
LAST = "import atexit; atexit.register(print, 'ACCEPTED {}'); import verifier.checker.main as m; m.walk.check = lambda *a: 1 / 0"


def test_a_library_that_ends_the_process_accepts_nothing(files: Files) -> None:
    for fault in ("sys.exit(0)", "exec('raise SystemExit')"):
        ended = run(*files.all(), before=PLANT.format(fault))
        assert (ended.code, ended.lines) == (4, []), ended


def test_an_error_of_the_checker(files: Files) -> None:
    for before in (PLANT.format("1 / 0"), LAST):
        ended = run(*files.all(), before=before)
        assert (ended.code, ended.lines) == (4, []), ended
        assert "ZeroDivisionError" in ended.errors


def test_nothing_is_printed_after_the_last_line(files: Files) -> None:
    ended = run(*files.all(), before="import atexit; atexit.register(print, 'MORE')")
    assert (ended.code, ended.word) == (0, "ACCEPTED")


def test_the_time_is_limited(files: Files) -> None:
    """Even if the first alarm is swallowed, as Python does in callbacks."""
    slow = "exec('import time\\ntry:\\n    time.sleep(60)\\nexcept Exception:\\n    time.sleep(60)')"
    ended = run(*files.all(), "--timeout", 0.5, before=PLANT.format(slow))
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", "time")


def test_the_memory_is_limited(files: Files) -> None:
    ended = run(*files.all(), "--memory", 0.5, before=PLANT.format("b'x' * (1 << 33)"))
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", "memory")


def test_a_recursion_without_end(files: Files) -> None:
    ended = run(*files.all(), before="import verifier.checker.main as m; m.walk.check = lambda *a: m.walk.check(*a)")
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", "recursion")


@pytest.mark.parametrize("first", [True, False])
def test_a_machine_that_flushes_to_zero(files: Files, first: bool) -> None:
    """The machine is probed at the start, and again at the end: a library may change it in between."""
    broken = "m.probe_machine = lambda: (_ for _ in ()).throw(m.Rejected('machine', 'here'))"
    planted = broken if first else f"m.walk.check = lambda *a: exec({broken!r}, dict(m=m))"
    ended = run(*files.all(), before=f"import verifier.checker.main as m; {planted}")
    assert (ended.code, ended.word, ended.facts["rule"]) == (5, "REJECTED", "machine")


def test_an_answer_that_cannot_be_printed_is_none(files: Files) -> None:
    with open("/dev/full", "w") as full:
        assert run(*files.all(), stdout=full).code == 4


# -------------------------------------------------------------------- imports

POISON = """exec('''
import sys
from importlib.machinery import PathFinder
class Poison:
    known = sys.stdlib_module_names | {"numpy", "onnx", "google", "ml_dtypes", "typing_extensions"}
    ours = {"graph", "specs", "bounds", "benchmarks", "soundproof", "tests", "verifier"}
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        checker = name == "verifier" or name.split(".")[:2] == ["verifier", "checker"]
        if top not in self.known and not checker and (top in self.ours or PathFinder.find_spec(top) is not None):
            raise RuntimeError("poisoned: " + name)
sys.meta_path.insert(0, Poison())
''')"""


@pytest.mark.parametrize(("semantics", "arithmetic"), [("real", "float64"), ("real", "exact"), ("float32", "float64")])
def test_the_checker_imports_nothing_else(tmp_path: Path, semantics: str, arithmetic: str) -> None:
    found = draft()
    found.semantics = semantics
    ended = run(*written(tmp_path, MODEL, SAFE, found.bytes()).all(), "--arithmetic", arithmetic, before=POISON)
    assert (ended.code, ended.word) == (0, "ACCEPTED"), ended


def test_the_poison_works(files: Files) -> None:
    for name in ("torch", "graph", "verifier.problem"):
        ended = run(*files.all(), before=f"{POISON}; import {name}")
        assert "poisoned" in ended.errors and ended.code != 0
