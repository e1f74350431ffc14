"""The watchdog answers in time and truthfully, whatever the worker does. The workers here are small scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from verifier import watchdog
from verifier.options import Options
from verifier.result import FileIdentity, Result
from verifier.watchdog import Failure, supervise

PREAMBLE = "import json, os, signal, sys, time\nrequest = json.loads(sys.stdin.readline())\ndef send(m): print(json.dumps(m), flush=True)\n"
FACTS = "send({'facts': {'bound': -0.25, 'nodes': 17, 'cases': {'total': 4, 'closed': 3, 'vacuous': 0, 'open': 1}}})\n"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options("m.onnx", "p.vnnlib", timeout=20, results_file=str(tmp_path / "r"), json=str(tmp_path / "j"), threads=1)


def limited(options: Options, **changes: object) -> Options:
    return Options(**{**options.to_request(), "started": time.monotonic(), **changes})  # type: ignore[arg-type]


def watch(options: Options, script: str, said: list[str] | None = None) -> Result | Failure:
    return supervise(options, (said if said is not None else []).append, [sys.executable, "-c", PREAMBLE + script])


def finished(verdict: str) -> dict[str, object]:
    found = Result((FileIdentity("m.onnx"),), FileIdentity("p.vnnlib"), verdict, "unchecked", "Proven.")  # type: ignore[arg-type]
    return found.to_dict()


def written(options: Options) -> tuple[str, dict[str, object]]:
    return Path(options.results_file or "").read_text(), json.loads(Path(options.json or "").read_text())


def test_an_answer_is_written_and_returned(options: Options) -> None:
    said: list[str] = []
    ending = watch(options, f"send({{'say': 'hello'}})\nsend({{'result': {finished('unsat')!r}}})\n", said)
    assert isinstance(ending, Result) and ending.verdict == "unsat" and ending.exit_code == 0 and said == ["hello"]
    text, plain = written(options)
    assert text == "unsat\n" and plain["verdict"] == "unsat" and plain["seconds"]["total"] > 0  # type: ignore[index]


def test_the_worker_gets_the_request(options: Options) -> None:
    said: list[str] = []
    tell = "send({'say': json.dumps(request)})\nsend({'say': os.environ['OMP_NUM_THREADS']})\n"
    watch(options, tell + "send({'error': 'e', 'kind': 'ModelError'})\n", said)
    request = json.loads(said[0])
    assert not Path(request.pop("folder")).exists()  # it was there, and has not been left behind
    assert Options.from_request(request) == options and said[1] == "1"


def test_a_hanging_worker_is_timed_out_with_what_it_knew(options: Options) -> None:
    short = limited(options, timeout=1.0)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FACTS + "while True: time.sleep(60)\n"
    ending = watch(short, deaf)
    late = time.monotonic() - short.limit
    assert isinstance(ending, Result) and ending.verdict == "timed-out" and ending.reason is not None and ending.reason.code == "time"
    assert 0 <= late < 2
    assert ending.bound == -0.25 and ending.nodes == 17 and ending.cases.open == 1 and ending.exit_code == 30
    text, plain = written(short)
    assert text == "timeout\n" and plain["bound"] == -0.25


def test_a_worker_that_obeys_is_timed_out_too(options: Options) -> None:
    ending = watch(limited(options, timeout=1.0), FACTS + "time.sleep(60)\n")
    assert isinstance(ending, Result) and ending.verdict == "timed-out" and ending.nodes == 17


def test_an_answer_just_before_the_limit_is_kept(options: Options) -> None:
    script = f"signal.signal(signal.SIGTERM, lambda *_: send({{'result': {finished('unsat')!r}}}))\nwhile True: time.sleep(0.01)\n"
    ending = watch(limited(options, timeout=2.0), script)
    assert isinstance(ending, Result) and ending.verdict == "unsat"


@pytest.mark.parametrize(("script", "how"), [("raise RuntimeError('boom')", "exit code 1"), ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV")])
def test_a_crash_is_an_internal_error_with_a_log(options: Options, script: str, how: str) -> None:
    Path(options.json or "").write_text("an answer to an older question")
    ending = watch(options, script + "\n")
    assert isinstance(ending, Failure) and ending.exit_code == 4 and how in ending.text
    log = Path(ending.text.split("kept at ")[1].split(";")[0])
    assert log.exists() and ("boom" not in script or "RuntimeError: boom" in log.read_text())
    log.unlink()
    assert Path(options.results_file or "").read_text() == "error\n" and not Path(options.json or "").exists()


def test_silence_is_not_an_answer(options: Options) -> None:
    ending = watch(options, "sys.exit(0)\n")
    assert isinstance(ending, Failure) and ending.exit_code == 4
    Path(ending.text.split("kept at ")[1].split(";")[0]).unlink()


def test_unusable_input_is_told_as_it_is(options: Options) -> None:
    ending = watch(options, "send({'error': 'm.onnx: broken', 'kind': 'ModelError'})\n")
    assert ending == Failure(3, "ModelError", "m.onnx: broken")
    assert Path(options.results_file or "").read_text() == "error\n"


def test_a_memory_hog_is_stopped(options: Options) -> None:
    hog = FACTS + "data = []\nwhile True:\n    data.append(bytearray(b'x') * (10 << 20)); time.sleep(0.01)\n"
    ending = watch(limited(options, memory=0.1), hog)
    assert isinstance(ending, Result) and ending.verdict == "unknown" and ending.reason is not None and ending.reason.code == "memory"
    assert (ending.peak_memory_bytes or 0) > 0.1e9 and ending.nodes == 17


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_as_unknown(options: Options, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    timer.start()
    ending = watch(options, FACTS + "time.sleep(60)\n")
    timer.join()
    assert isinstance(ending, Result) and ending.verdict == "unknown" and ending.reason is not None and ending.reason.code == "interrupted"
    assert ending.exit_code == 20 and ending.nodes == 17 and signal.getsignal(number) == before
    assert written(options)[0] == "unknown\n"


def test_grandchildren_do_not_survive(options: Options, tmp_path: Path) -> None:
    script = f"""
import subprocess
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open({str(tmp_path / "pid")!r}, 'w').write(str(child.pid))
send({{'result': {finished('unsat')!r}}})
time.sleep(60)
"""
    watch(options, script)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
        if not state or state.startswith("Z"):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still running")


def test_a_full_disk_does_not_cost_the_answer(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verifier.watchdog.write_atomically", no_space)
    said: list[str] = []
    ending = watch(options, f"send({{'result': {finished('unsat')!r}}})\n", said)
    assert isinstance(ending, Result) and any("No space left" in line for line in said)


def test_the_worker_leaves_when_the_watchdog_is_killed(tmp_path: Path) -> None:
    """SIGKILL cannot be caught: the real worker notices that its standard input has ended."""
    code = (
        "import os, subprocess, sys, time; from verifier.watchdog import worker_command\n"
        "w = subprocess.Popen(worker_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "print(w.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    if parent.stdout is None:
        pytest.fail("no pipe")
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its watchdog")


# ---------------------------------------------------------------- the checker


PROOF = """
path = os.path.join(request['folder'], 'certificate')
open(path, 'w').write('a proof')
facts = {'path': path, 'sha256': 'c' * 64, 'bytes': 7, 'outcome': None, 'seconds': None}
result = %r
result['certificate'] = facts
result['models'][0]['sha256'], result['property']['sha256'] = 'a' * 64, 'b' * 64
send({'proof': result, 'path': path})
time.sleep(60)
"""
GOOD = {"certificate": "c" * 64, "model": "a" * 64, "property": "b" * 64, "semantics": "real"}


def checked(options: Options, script: str, said: list[str] | None = None) -> Result:
    """A run whose worker has a proof and whose checker is this script."""
    python = [sys.executable, "-c", "import os, sys, time, json, signal\ndef say(m): print(m, flush=True)\n" + script]
    found = supervise(options, (said if said is not None else []).append, [sys.executable, "-c", PREAMBLE + PROOF % finished("unsat")], python)
    assert isinstance(found, Result)
    return found


def kept(found: Result) -> None:
    """The certificate is where the result says; then it is removed."""
    path = Path(found.certificate.path or "")
    assert path.read_text() == "a proof"
    path.unlink()
    path.parent.rmdir()


def test_what_the_checker_accepts_is_certified(options: Options, tmp_path: Path) -> None:
    wanted = tmp_path / "proof"
    found = checked(limited(options, certificate=str(wanted)), f"say('noise\\nACCEPTED ' + json.dumps({GOOD}))")
    assert (found.verdict, found.assurance, found.reason, found.exit_code) == ("unsat", "certified", None, 0)
    assert wanted.read_text() == "a proof" and found.certificate.path == str(wanted)
    assert found.certificate.outcome == "accepted" and (found.seconds["check"] or 0) > 0
    text, plain = written(options)
    assert text == "unsat\n" and plain["assurance"] == "certified" and plain["certificate"]["sha256"] == "c" * 64  # type: ignore[index]


def test_an_accepted_certificate_is_not_kept_unasked(options: Options) -> None:
    found = checked(options, f"assert not os.path.exists('x'); say('ACCEPTED ' + json.dumps({GOOD}))")
    assert found.assurance == "certified" and found.certificate.path is None and found.certificate.bytes == 7


def test_the_checker_gets_files_and_limits(options: Options) -> None:
    said: list[str] = []
    tell = "say('REJECTED ' + json.dumps({'rule': 'leaf', 'place': ' '.join(sys.argv[1:])}))\nsys.exit(5)"
    found = checked(limited(options, memory=2.0), tell, said)
    words = (found.reason.text if found.reason else "").split()
    assert "m.onnx" in words and "p.vnnlib" in words and "--threads" in words and words[words.index("--memory") + 1].startswith("2.0")
    assert 0 < float(words[words.index("--timeout") + 1]) <= 20
    kept(found)


@pytest.mark.parametrize(("script", "code", "outcome"), [
    ("say('REJECTED ' + json.dumps({'rule': 'leaf', 'place': 'tree 3'})); sys.exit(5)", "certificate-rejected", "rejected"),
    ("say('MALFORMED ' + json.dumps({'rule': 'zip', 'place': 'x'})); sys.exit(5)", "certificate-rejected", "malformed"),
    ("say('REJECTED ' + json.dumps({'rule': 'unsupported-operator', 'place': 'x'})); sys.exit(5)", "unsupported-in-checker", "rejected"),
    ("say('REJECTED ' + json.dumps({'rule': 'time', 'place': 'x'})); sys.exit(5)", "check-unfinished", "unfinished"),
    ("say('REJECTED ' + json.dumps({'rule': 'memory', 'place': 'x'})); sys.exit(5)", "memory", "unfinished"),
    ("say('ACCEPTED'); sys.exit(0)", "check-unfinished", "unfinished"),
    ("sys.exit(0)", "check-unfinished", "unfinished"),
    ("raise RuntimeError('boom')", "check-unfinished", "unfinished"),
    (f"say('ACCEPTED ' + json.dumps({GOOD})); os.kill(os.getpid(), signal.SIGKILL)", "check-unfinished", "unfinished"),
    (f"say('ACCEPTED ' + json.dumps({GOOD})); sys.exit(5)", "check-unfinished", "unfinished"),
    (f"say('ACCEPTED ' + json.dumps({GOOD})); say('goodbye')", "check-unfinished", "unfinished"),
    (f"say('ACCEPTED ' + json.dumps({{**{GOOD}, 'semantics': 'float32'}}))", "certificate-rejected", "rejected"),
    (f"say('ACCEPTED ' + json.dumps({{**{GOOD}, 'model': 'd' * 64}}))", "certificate-rejected", "rejected"),
    (f"say('ACCEPTED ' + json.dumps({{**{GOOD}, 'certificate': 'd' * 64}}))", "certificate-rejected", "rejected"),
])  # fmt: skip
def test_anything_else_is_unknown_and_the_certificate_is_kept(options: Options, script: str, code: str, outcome: str) -> None:
    said: list[str] = []
    found = checked(options, script, said)
    assert (found.verdict, found.assurance, found.exit_code) == ("unknown", "none", 20)
    assert found.reason is not None and found.reason.code == code and str(found.certificate.path) in said[-1]
    assert found.certificate.outcome == outcome
    assert written(options)[0] == "unknown\n"
    kept(found)


# ---------------------------------------------------------------- what is only conjectured

CONJECTURE = PROOF.replace("'certificate')", "'conjecture')").replace("send({'proof'", "send({'conjecture'").replace("time.sleep(60)\n", "")


def conjecturing(options: Options, more: str, checker: str, said: list[str] | None = None) -> Result | Failure:
    """A run whose worker conjectures, and goes on with the script `more`."""
    python = [sys.executable, "-c", "import os, sys, time, json\ndef say(m): print(m, flush=True)\n" + checker]
    worker = [sys.executable, "-c", PREAMBLE + CONJECTURE % finished("unsat") + more]
    return supervise(options, (said if said is not None else []).append, worker, python)


def test_a_conjecture_that_the_checker_accepts_is_certified(options: Options, tmp_path: Path) -> None:
    wanted, said = tmp_path / "proof", list[str]()
    asked = limited(options, certificate=str(wanted))
    found = conjecturing(asked, "time.sleep(60)\n", f"say('ACCEPTED ' + json.dumps({GOOD}))", said)
    assert isinstance(found, Result) and (found.verdict, found.assurance, found.exit_code) == ("unsat", "certified", 0)
    assert wanted.read_text() == "a proof" and found.certificate.path == str(wanted) and found.certificate.outcome == "accepted" and not said
    assert 0 < (found.seconds["check"] or 0) <= (found.seconds["total"] or 0) < 20 and written(options)[0] == "unsat\n"


@pytest.mark.parametrize("refusal", [
    "say('REJECTED ' + json.dumps({'rule': 'leaf', 'place': 'tree 3'})); sys.exit(5)",
    "say('MALFORMED ' + json.dumps({'rule': 'zip', 'place': 'x'})); sys.exit(5)",
    f"say('ACCEPTED ' + json.dumps({{**{GOOD}, 'model': 'd' * 64}}))",
    "raise RuntimeError('boom')",
])  # fmt: skip
def test_another_word_on_a_conjecture_is_none(options: Options, refusal: str) -> None:
    """The worker is listened to as if nothing had been said; everything that it said meanwhile is heard."""
    said: list[str] = []
    unknown = {**finished("unsat"), "verdict": "unknown", "assurance": "none", "reason": {"code": "numerical", "text": "stuck"}, "nodes": 5}
    more = f"send({{'say': 'going on'}})\nsend({{'say': str(os.path.exists(path))}})\nsend({{'result': {unknown!r}}})\n"
    found = conjecturing(options, more, refusal, said)
    assert isinstance(found, Result) and (found.verdict, found.nodes, found.certificate.path) == ("unknown", 5, None)
    assert found.reason is not None and found.reason.text == "stuck" and said == ["going on", "True"]


def test_a_conjecture_is_checked_for_seconds_only(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "CONJECTURE_SECONDS", 0.5)
    found = conjecturing(options, f"send({{'result': {finished('unsat')!r}}})\n", "time.sleep(60)")
    assert isinstance(found, Result) and found.assurance == "unchecked" and (found.seconds["total"] or 99) < 10


ZERO = {"name": "x", "shape": [1], "values": [0.0], "element_type": "float32"}
WITNESS = {"inputs": [ZERO], "outputs": [ZERO], "inside_exact_box": True, "float32_only": None}


@pytest.mark.parametrize(("told", "awaited"), [
    ({"result": {**finished("unsat"), "verdict": "sat", "assurance": "replayed", "nodes": 7, "witness": WITNESS}}, False),
    ({"proof": {**finished("unsat"), "nodes": 7}}, False),
    ({"proof": {**finished("unsat"), "nodes": 1}}, True),  # as easy as the conjecture, whose check is ahead
    ({"result": {**finished("unknown"), "nodes": 7, "reason": {"code": "numerical", "text": "stuck"}}}, True),
])  # fmt: skip
def test_a_conjecture_is_left_once_nothing_is_to_be_hoped_of_it(options: Options, told: dict[str, object], awaited: bool) -> None:
    """The worker is done at once; the check of its conjecture takes a second, or ten minutes where nobody should wait for it."""
    assert leaving(options, told, 1 if awaited else 600).nodes == (0 if awaited else 7)


def test_a_run_that_is_counted_in_nodes_does_not_ask_who_was_first(options: Options) -> None:
    assert leaving(limited(options, nodes=9), {"proof": {**finished("unsat"), "nodes": 7}}, 1).nodes == 0


def leaving(options: Options, told: dict[str, object], seconds: int) -> Result:
    """A run whose worker tells this after its conjecture, which takes so long to check."""
    checker = f"time.sleep({seconds} if sys.argv[3].endswith('conjecture') else 0)\nsay('ACCEPTED ' + json.dumps({GOOD}))"
    ending = "told = %r\nfor plain in told.values():\n    plain.update({k: result[k] for k in ('certificate', 'models', 'property')})\n"
    proof = "if 'proof' in told:\n    told['path'] = path.replace('conjecture', 'certificate')\n    open(told['path'], 'w').write('a proof')\n"
    worker = [sys.executable, "-c", PREAMBLE + CONJECTURE % finished("unsat") + ending % told + proof + "send(told)\ntime.sleep(60)\n"]
    python = [sys.executable, "-c", "import os, sys, time, json\ndef say(m): print(m, flush=True)\n" + checker]
    judge = [sys.executable, "-c", "print('CONFIRMED {\"inside_exact_box\": true}')"]
    found = supervise(options, lambda _: None, worker, python, judge)
    assert isinstance(found, Result)
    return found


def test_a_worker_that_dies_after_a_conjecture_is_noticed(options: Options) -> None:
    found = conjecturing(options, "sys.exit(7)\n", "sys.exit(5)")
    assert isinstance(found, Failure) and "exit code 7" in found.text


# ---------------------------------------------------------------- proofs that are mended

AGAIN = """
for k in range(1, 20):
    request = json.loads(sys.stdin.readline())
    send({'say': request['repair'] + ' ' + str(request['check_seconds'] > 0)})
    path = os.path.join(os.path.dirname(path), f'certificate-{k}')
    open(path, 'w').write('a proof')
    result['nodes'] = k
    send({'proof': result, 'path': path})
time.sleep(60)
"""
# Misses as many leaves as the list says, certificate by certificate; where it ends, nothing.
MISSING = """
k = int(sys.argv[3].rsplit('-', 1)[-1]) if os.path.basename(sys.argv[3]) != 'certificate' else 0
left = %r
if k < len(left):
    open(sys.argv[sys.argv.index('--diagnose') + 1], 'w').write('{}\\n' * left[k])
    say('REJECTED ' + json.dumps({'rule': %r, 'place': 'x'}))
    sys.exit(5)
say('ACCEPTED ' + json.dumps(%r))
"""


def mending(options: Options, more: str, left: list[int], rule: str = "open", said: list[str] | None = None) -> Result:
    """A run whose worker goes on with this script after its first proof."""
    worker = [sys.executable, "-c", PREAMBLE + (PROOF % finished("unsat")).replace("time.sleep(60)\n", "") + more]
    checker = [sys.executable, "-c", "import os, sys, json\ndef say(m): print(m, flush=True)\n" + MISSING % (left, rule, GOOD)]
    judge = [sys.executable, "-c", "print('CONFIRMED {\"inside_exact_box\": true}')"]
    found = supervise(options, (said if said is not None else []).append, worker, checker, judge)
    assert isinstance(found, Result)
    return found


def test_what_the_checker_misses_is_asked_for_again(options: Options) -> None:
    said: list[str] = []
    found = mending(options, AGAIN, [5, 5, 1], said=said)
    assert (found.verdict, found.assurance, found.nodes, found.certificate.path) == ("unsat", "certified", 3, None), found
    assert len(said) == 3 and all(line.endswith("diagnosis True") for line in said)
    assert not Path(said[0].split(" ")[0]).parent.exists()  # nothing is left behind


@pytest.mark.parametrize(("left", "rule", "asked"), [
    ([5, 6], "open", 1), ([1] * 20, "open", 6), ([0], "open", 0), ([3], "cover", 0), ([30_000], "leaf", 0),
])  # fmt: skip
def test_mending_ends(options: Options, left: list[int], rule: str, asked: int) -> None:
    """Where more is missed than before, after six times, without a diagnosis, where not only leaves are wrong, where too much is missed."""
    said: list[str] = []
    found = mending(options, AGAIN, left, rule, said)
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "certificate-rejected"
    assert len(said) == asked + 1 and found.nodes == asked
    assert [path.name for path in Path(found.certificate.path or "").parent.iterdir()] == [f"certificate-{asked}" if asked else "certificate"]
    kept(found)


@pytest.mark.parametrize("more", ["", "sys.exit(0)\n", "send({'result': {**result, 'verdict': 'unknown'}})\n"])
def test_a_worker_that_cannot_mend_leaves_the_rejection(options: Options, more: str) -> None:
    found = mending(options, "sys.stdin.readline()\n" + more, [1])
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "certificate-rejected"
    kept(found)


def test_a_witness_found_while_mending_wins(options: Options) -> None:
    sat = "sys.stdin.readline()\nsend({'result': {**result, 'verdict': 'sat', 'assurance': 'replayed'}})\n"
    a = {"name": "X", "shape": [1], "values": [1.0], "element_type": "float32"}
    witness = f"result['witness'] = {{'inputs': [{a!r}], 'outputs': [{a!r}], 'inside_exact_box': True, 'float32_only': None}}\n"
    found = mending(options, witness + sat, [1])
    assert (found.verdict, found.assurance) == ("sat", "replayed") and (found.seconds["check"] or 0) > 0


def test_time_runs_out_while_a_proof_is_mended(options: Options) -> None:
    short = limited(options, timeout=2.0)
    found = mending(short, "sys.stdin.readline()\ntime.sleep(60)\n", [1])
    assert -0.5 <= time.monotonic() - short.limit < 2
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "certificate-rejected"
    kept(found)


def test_a_large_worker_makes_room_for_the_checker(options: Options) -> None:
    """It can mend nothing then, but what the checker accepts is accepted."""
    large = "x = bytearray(b'x') * (60 << 20)\n" + AGAIN
    size = "x = bytearray(b'x') * (60 << 20)\nimport time; time.sleep(0.5)\n"
    worker = [sys.executable, "-c", PREAMBLE + (PROOF % finished("unsat")).replace("time.sleep(60)\n", "") + large]
    checker = [sys.executable, "-c", "import json\n" + size + f"print('ACCEPTED ' + json.dumps({GOOD}), flush=True)"]
    found = supervise(limited(options, memory=0.1), [].append, worker, checker)
    assert isinstance(found, Result) and found.assurance == "certified", found


def test_whoever_trusts_the_engine_gets_its_answer(options: Options) -> None:
    found = checked(limited(options, trust=("engine",)), "say('REJECTED ' + json.dumps({'rule': 'leaf', 'place': 'x'})); sys.exit(5)")
    assert (found.verdict, found.assurance, found.reason) == ("unsat", "unchecked", None) and found.certificate.outcome == "rejected"
    kept(found)


def test_a_hanging_checker_does_not_delay_the_answer(options: Options, tmp_path: Path) -> None:
    short, pid = limited(options, timeout=2.0), tmp_path / "pid"
    found = checked(short, f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    assert 0 <= time.monotonic() - short.limit < 2
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "check-unfinished"
    assert not Path(f"/proc/{pid.read_text()}").exists()
    kept(found)


def test_a_checker_that_takes_too_much_memory_is_stopped(options: Options) -> None:
    found = checked(limited(options, memory=0.1), "x = bytearray(b'x') * (300 << 20)\ntime.sleep(60)")
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "memory"
    kept(found)


def test_a_signal_ends_the_check(options: Options) -> None:
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    found = checked(options, "time.sleep(60)")
    timer.join()
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "interrupted"
    kept(found)


def test_a_certificate_that_cannot_be_moved_stays(options: Options, tmp_path: Path) -> None:
    said: list[str] = []
    missing = tmp_path / "gone"
    missing.mkdir()
    asked = limited(options, certificate=str(missing / "proof"))
    missing.rmdir()
    found = checked(asked, f"say('ACCEPTED ' + json.dumps({GOOD}))", said)
    assert found.assurance == "certified" and "could not write" in said[-1]
    kept(found)


# ---------------------------------------------------------------- proofs that are followed

PARTS = """
path = os.path.join(request['folder'], 'part-')
send({'facts': {'nodes': 500}})
for k in range(3):
    open(path + str(k), 'w').write('a part')
    send({'part': path + str(k), 'count': 10})
    asked = json.loads(sys.stdin.readline())
    send({'say': f"{asked['part_at'] > 0} {asked['walked']}"})
send({'say': str(os.path.exists(path + '0'))})
"""
# Answers each line of its input: what is no part of a proof as the list says, where it ends with what is accepted; and tells how often it began.
FOLLOWING = """
left, at = %r, sys.argv.index('--diagnose') + 1
assert '--follow' in sys.argv and not any('certificate' in word for word in sys.argv)
for line in sys.stdin:
    if 'part-' in line:
        say('REJECTED ' + json.dumps({'rule': 'open', 'place': 'a part'}))
    elif left:
        open(sys.argv[at], 'w').write('{}\\n' * left.pop(0))
        say('REJECTED ' + json.dumps({'rule': 'leaf', 'place': 'x'}))
    else:
        say('ACCEPTED ' + json.dumps(%r))
"""


def following(options: Options, script: str, left: list[int], said: list[str], more: str = "") -> Result | Failure:
    """A run whose worker does this before it has a proof of many nodes, and `more` after it."""
    proof = (PROOF % {**finished("unsat"), "nodes": 500}).replace("time.sleep(60)\n", "")
    checker = "import os, sys, json, time\ndef say(m): print(m, flush=True)\n" + FOLLOWING % (left, GOOD)
    return supervise(options, said.append, [sys.executable, "-c", PREAMBLE + script + proof + more], [sys.executable, "-c", checker])


def test_a_proof_is_followed_while_it_is_found(options: Options) -> None:
    """The worker is asked for another part as long as the checker has fewer than two; parts that were walked are deleted."""
    said: list[str] = []
    found = following(options, PARTS, [], said)
    assert isinstance(found, Result) and (found.verdict, found.assurance, found.certificate.path) == ("unsat", "certified", None), found
    assert len(said) == 4 and said[0] == "False 0" and {"True 10", "True 20"} & set(said[1:3]) and said[3] == "False", said


@pytest.mark.parametrize("script", [PARTS, ""])
def test_a_better_proof_is_followed_by_the_same_process(options: Options, script: str) -> None:
    said: list[str] = []
    again = AGAIN.replace("result['nodes'] = k", "result['nodes'] = 500 + k")
    found = following(options, script, [5, 2], said, again)
    assert isinstance(found, Result) and (found.verdict, found.nodes) == ("unsat", 502), found
    assert len([line for line in said if "diagnosis" in line]) == 2


def test_a_follower_that_dies_is_started_again(options: Options) -> None:
    said: list[str] = []
    dying = "import os, sys, json, time\ndef say(m): print(m, flush=True)\nif not os.path.exists(%r):\n    open(%r, 'w').close()\n    sys.exit(3)\n"
    mark = os.path.join(os.path.dirname(options.json or ""), "began")
    proof = PROOF % {**finished("unsat"), "nodes": 500}
    checker = dying % (mark, mark) + FOLLOWING % ([], GOOD)
    part = "path = os.path.join(request['folder'], 'part-0')\nopen(path, 'w').close()\nsend({'part': path, 'count': 10})\ntime.sleep(1)\n"
    found = supervise(options, said.append, [sys.executable, "-c", PREAMBLE + part + proof], [sys.executable, "-c", checker])
    assert isinstance(found, Result) and found.verdict == "unsat", found


def test_the_limit_ends_a_check_that_follows(options: Options) -> None:
    hanging = "import sys, time\ntime.sleep(60)\n"
    proof = PROOF % {**finished("unsat"), "nodes": 500}
    found = supervise(limited(options, timeout=3.0), lambda _: None, [sys.executable, "-c", PREAMBLE + proof], [sys.executable, "-c", hanging])
    assert isinstance(found, Result) and found.verdict == "unknown" and found.reason is not None and found.reason.code == "check-unfinished", found
    kept(found)


def test_a_checker_that_follows_must_also_end_well(options: Options) -> None:
    """The word alone is not enough: the exit code has to say so, too."""
    lying = f"import sys, json\nfor line in sys.stdin:\n    print('ACCEPTED ' + json.dumps({GOOD!r}), flush=True)\nsys.exit(4)\n"
    proof = PROOF % {**finished("unsat"), "nodes": 500}
    found = supervise(options, lambda _: None, [sys.executable, "-c", PREAMBLE + proof], [sys.executable, "-c", lying])
    assert isinstance(found, Result) and found.verdict == "unknown" and found.assurance == "none", found
    kept(found)
