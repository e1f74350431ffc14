"""A local Ray cluster gives what one machine gives, also when one of its workers is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.certify import campaigns
from tests.benchmarks.certify.campaigns import soundproof

ASKED = ["--region", "linf:0.05,0.13", "--nodes", "1", "--split", "4", "--jobs", "2"]  # some queries are answered in parts


def answers(folder: Path) -> Any:
    plain = json.loads((folder / "report.json").read_text())
    assert plain["parts"] and any(q["status"] == "certified" for q in plain["queries"] if q["split"])
    told = [{k: v for k, v in q.items() if k != "seconds"} for q in (*plain["queries"], *plain["parts"])]
    return told, plain["checks"], plain["state"]


def actors_below(pid: int) -> list[int]:
    """Ray workers among the descendants of a process."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, IndexError):
                continue

    def below(one: int) -> bool:
        while one in parents and one not in (0, 1):
            one = parents[one]
            if one == pid:
                return True
        return False

    return [one for one, name in names.items() if name.startswith("ray::Answerer") and below(one)]


@pytest.mark.slow
def test_a_cluster_answers_as_one_machine_does_and_outlives_a_worker(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    model, data = campaigns.write_random(tmp_path, 4)
    arguments = ["certify", model, "--data", data, *ASKED]
    assert soundproof(*arguments, "--out", tmp_path / "here").returncode == 0
    done = soundproof(*arguments, "--out", tmp_path / "ray", "--cluster", "ray")
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(campaigns.command(*arguments, "--out", tmp_path / "killed", "--cluster", "ray"), env=campaigns.environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline, killed = time.monotonic() + 240, 0
    while process.poll() is None and not killed and time.monotonic() < deadline:
        working = actors_below(process.pid)
        if working and list((tmp_path / "killed").glob("queries/linf/*/*/query.vnnlib")):
            os.kill(working[0], signal.SIGKILL)
            killed += 1
        time.sleep(0.05)
    assert process.wait(240) == 0 and killed == 1
    assert answers(tmp_path / "here") == answers(tmp_path / "ray") == answers(tmp_path / "killed")
    assert soundproof("recheck", tmp_path / "killed").returncode == 0
