"""Runs tests in forks of a process that has imported what is slow to import, for `benchmarks.mutants`: python tests/fork_server.py FOLDER

FOLDER is a copy of the repository. Each line of standard input is {"tests": [...], "seconds": CPU limit}; each line of standard output is
{"failed": id of the first test that failed, "time", "" if all passed, "seconds": CPU used}. Nothing of ours is imported before the fork.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from pathlib import Path

import hypothesis
import onnx.reference  # noqa: F401 (slow to import)
import pytest

GB = 10**9


class First:
    """Remembers what failed first, a file that cannot be imported included."""

    def __init__(self) -> None:
        self.name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.name = self.name or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.name = self.name or report.nodeid


def run(tests: list[str], folder: Path) -> str:
    """The first failure of these tests, which must be those of `folder`."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # a failure need not be small
    quick = hypothesis.settings(derandomize=True, database=None, deadline=None, phases=phases, suppress_health_check=list(hypothesis.HealthCheck))
    hypothesis.settings.register_profile("mutants", quick)
    hypothesis.settings.load_profile("mutants")
    first = First()
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=[first])
    loaded = Path(sys.modules["verifier"].__path__[0]).parent if "verifier" in sys.modules else folder
    if loaded != folder:
        return f"lost: the tests import {loaded}"
    return (first.name or f"pytest ended with {code}") if code else ""


def forked(tests: list[str], seconds: float, folder: Path) -> dict[str, object]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        limit = math.ceil(seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        resource.setrlimit(resource.RLIMIT_AS, (8 * GB, 8 * GB))
        signal.alarm(20 * limit)
        failed = "an error outside the tests"
        try:
            failed = run(tests, folder)
        finally:
            os.write(write, failed.encode()[:4000])
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        failed = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"failed": failed if os.WIFEXITED(status) else "time", "seconds": round(used, 2)}


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    os.chdir(folder)
    sys.path[0] = str(folder)
    os.environ["SOUNDPROOF_THOROUGH"] = "1"  # a mutant survives all that the tests draw, and not a quarter
    sys.dont_write_bytecode = True  # a mutant must never be taken from a cache
    for line in sys.stdin:
        job = json.loads(line)
        sys.stdout.write(json.dumps(forked(job["tests"], job["seconds"], folder)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
