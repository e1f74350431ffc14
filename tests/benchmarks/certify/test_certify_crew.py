"""Processes that die, hang, lie or run out of something: none of it ends a campaign, and none of it proves anything."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.certify import crew
from benchmarks.certify.crew import Checking, Crew, Ended, Job, accepted
from benchmarks.certify.errors import InputError, Stopped, UsageError
from benchmarks.certify.store import Row, Store, write_synced
from tests.benchmarks.certify import campaigns

WORKER = """
import json, os, sys, time
from pathlib import Path
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die" or (request["do"] == "die once" and not Path(request["mark"]).exists()):
        Path(request["mark"]).touch()
        os._exit(9)
    if request["do"] == "hang":
        time.sleep(1000)
    if request["do"] == "crash" or (request["do"] == "crash once" and not Path(request["mark"]).exists()):
        Path(request["mark"]).touch()
        print(json.dumps({"crash": "killed by SIGSEGV"}), flush=True)
        continue
    print(json.dumps({"result": request["do"]}), flush=True)
"""


def answered(tmp_path: Path, *wanted: str) -> dict[str, Ended]:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    pool, found = Crew(2, 1, tmp_path / "log", [sys.executable, str(script)]), {}
    waiting = [Job(f"{number} {do}", {"do": do, "mark": str(tmp_path / f"mark{number}")}, 0.5 if do == "hang" else 60.0)
               for number, do in enumerate(wanted)]
    deadline = time.monotonic() + 60
    try:
        while len(found) < len(wanted) and time.monotonic() < deadline:
            while waiting and pool.idle:
                pool.give(waiting.pop(0))
            found.update((ended.key, ended) for ended in pool.step(0.1))
    finally:
        pool.stop()
    return found


def test_workers_that_die_are_replaced(tmp_path: Path) -> None:
    found = answered(tmp_path, "a", "die once", "die", "b", "c")
    assert {key: ended.message for key, ended in found.items()} == {
        "0 a": {"result": "a"}, "1 die once": {"result": "die once"}, "2 die": {"crash": "its worker died, twice"}, "3 b": {"result": "b"},
        "4 c": {"result": "c"},
    }


def test_a_query_whose_process_died_is_begun_once_more(tmp_path: Path) -> None:
    """The worker lives: it was a process of its own that ended, killed for its memory, say."""
    found = answered(tmp_path, "crash once", "crash", "a")
    assert [found[key].message for key in sorted(found)] == [{"result": "crash once"}, {"crash": "killed by SIGSEGV, twice"}, {"result": "a"}]


def test_a_worker_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "HANGING", 0.2)
    found = answered(tmp_path, "hang", "a")
    assert found["0 hang"].message == {"crash": "its worker did not answer, twice"} and found["1 a"].message == {"result": "a"}


FACTS = '{"certificate": "c", "model": "m", "property": "p", "semantics": "float32"}'


def checked(tmp_path: Path, script: str, certificates: int = 2) -> list[bool]:
    files = [(str(n), tmp_path / "m", tmp_path / "p", tmp_path / "c") for n in range(certificates)]
    checking = Checking(tmp_path, files, [], 60.0, [sys.executable, "-c", script])
    while (answers := checking.ended()) is None:
        time.sleep(0.01)
    return [accepted(answer, "c", "m", "p", "float32") for answer in answers]


@pytest.mark.parametrize(("script", "found"), [
    (f"print('ACCEPTED {FACTS}\\nACCEPTED {FACTS}')", [True, True]),
    (f"print('ACCEPTED {FACTS}\\nREJECTED {{}}'); raise SystemExit(5)", [True, False]),
    (f"print('ACCEPTED {FACTS}\\nACCEPTED {FACTS}'); raise SystemExit(1)", []),
    (f"print('ACCEPTED {FACTS}\\nACCEPTED {FACTS}'); raise SystemExit(5)", []),
    (f"print('ACCEPTED {FACTS}\\nREJECTED {{}}')", []),
    (f"print('ACCEPTED {FACTS}')", []),
    (f"print('ACCEPTED {FACTS}\\n' * 3)", []),
    ("import os; os.kill(os.getpid(), 9)", []),
    (f"print('ACCEPTED {FACTS.replace('float32', 'real')}\\nACCEPTED {FACTS.replace('p', 'q')}')", [False, False]),
    ("print('ACCEPTED\\nACCEPTED []')", []),
])
def test_only_a_whole_answer_of_the_checker_counts(tmp_path: Path, script: str, found: list[bool]) -> None:
    assert checked(tmp_path, script) == found


def test_a_checker_that_hangs_has_accepted_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "HANGING", 0.1)
    files = [("a", tmp_path / "m", tmp_path / "p", tmp_path / "c")]
    script = f"import time; print('ACCEPTED {FACTS}', flush=True); time.sleep(1000)"
    checking = Checking(tmp_path, files, [], 0.5, [sys.executable, "-c", script])
    deadline = time.monotonic() + 30
    while (answers := checking.ended()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answers == []


def test_a_store_keeps_what_was_recorded(tmp_path: Path) -> None:
    store = Store(tmp_path / "e", {"budget": 1})
    store.record("a", Row("claimed", {"x": 1.5}))
    store.record("a", Row("certified", {"x": 1.5}))
    with pytest.raises(UsageError, match="another run is writing it"):
        Store(tmp_path / "e", {"budget": 1})
    store.close()
    with pytest.raises(UsageError, match="begun with other budget"):
        Store(tmp_path / "e", {"budget": 2})
    again = Store(tmp_path / "e", {"budget": 1})
    assert again.rows == {"a": Row("certified", {"x": 1.5})}
    again.close()
    (tmp_path / "e" / "results.sqlite").write_bytes(b"no base at all, but long enough to look like something " * 40)
    for side in ("results.sqlite-wal", "results.sqlite-shm"):
        (tmp_path / "e" / side).unlink(missing_ok=True)
    with pytest.raises(InputError, match="not a store"):
        Store(tmp_path / "e", {"budget": 1})


def test_a_disk_that_is_full_stops_and_keeps(tmp_path: Path) -> None:
    (tmp_path / "x.part").symlink_to("/dev/full")
    with pytest.raises(Stopped, match="No space left on device"):
        write_synced(tmp_path / "x", b"1" * 100_000)
    assert not (tmp_path / "x").exists()


LIMITED = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); sys.argv = sys.argv[1:]; " \
          "runpy.run_module('soundproof', run_name='__main__')"


def test_a_campaign_without_room_says_so(tmp_path: Path) -> None:
    """No file may grow beyond 30 kB: the store does not fit."""
    model, data = campaigns.write_larger_wins(tmp_path)
    arguments = ["soundproof", "certify", model, "--data", data, "--out", tmp_path / "e", "--region", "linf:0.1", "--nodes", "9", "--jobs", "1"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *map(str, arguments)], capture_output=True, text=True, env=campaigns.environment(),
                          check=False, timeout=120)
    assert done.returncode in (2, 20) and "results.sqlite" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_query_that_takes_too_much_memory_is_unknown(tmp_path: Path) -> None:
    model, data = campaigns.write_larger_wins(tmp_path)
    asked = ["--region", "linf:0.1", "--memory", "0.05", "--samples", "1", "--jobs", "1"]
    done = campaigns.soundproof("certify", model, "--data", data, "--out", tmp_path / "e", *asked)
    assert done.returncode == 0, done.stderr
    assert "the memory limit of 0.05 GB was reached" in (tmp_path / "e" / "report.json").read_text()
