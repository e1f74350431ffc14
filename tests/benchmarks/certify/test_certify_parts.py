"""Hard queries in parts: halves are the whole, in exact numbers; what the parts say together; what recheck says of parts that are not all there."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from benchmarks.certify import data, parts, plan, policy
from benchmarks.certify.campaign import Budget, Campaign
from benchmarks.certify.compose import read as read_model
from benchmarks.certify.crew import Ended, Job
from benchmarks.certify.errors import CertifyError, Stopped, UsageError
from benchmarks.certify.evidence import write_hashes
from benchmarks.certify.parts import Corners, covered, covers
from benchmarks.certify.policy import Policy, canonical
from benchmarks.certify.question import Key, Subjects
from benchmarks.certify.recheck import recheck
from benchmarks.certify.regions import Region
from benchmarks.certify.store import Row, Store
from specs.canonical import Atom
from tests.benchmarks.certify import campaigns
from tests.benchmarks.certify.campaigns import soundproof
from tests.benchmarks.certify.test_certify_trust import Liar, result


def box(*ends: tuple[object, object]) -> Corners:
    return tuple(Fraction(a) for a, _ in ends), tuple(Fraction(b) for _, b in ends)  # type: ignore[arg-type]


def tree(region: Region, draw: random.Random, depth: int) -> list[Corners]:
    """The leaves of random halving."""
    if depth == 0 or (depth < 6 and draw.random() < 0.15):
        return list(region.boxes)
    axis = draw.randrange(region.size)
    return [leaf for upper in (False, True) for leaf in tree(region.half(axis, upper), draw, depth - 1)]


@pytest.mark.parametrize("seed", range(8))
def test_halves_of_halves_cover_and_any_gap_is_found(seed: int) -> None:
    draw = random.Random(seed)
    whole = box(("-1/3", "0.7"), (0, 2), ("2/255", "1"))
    leaves = tree(Region((whole,)), draw, 6)
    assert len(leaves) > 1 and covered(whole, leaves)
    gone = draw.randrange(len(leaves))
    assert not covered(whole, leaves[:gone] + leaves[gone + 1 :])
    low, high = leaves[gone]
    less = (low, (high[0] - Fraction(1, 10**30), *high[1:]))
    assert not covered(whole, [*leaves[:gone], less, *leaves[gone + 1 :]])
    more = ((low[0] - 1, *low[1:]), high)
    assert covered(whole, [*leaves[:gone], more, *leaves[gone + 1 :]])


def test_what_a_box_is_covered_by() -> None:
    square = box((0, 2), (0, 2))
    rows = [box((0, 2), (0, 1)), box((0, 2), (1, 2))]
    assert covered(square, rows) and covered(square, [box((-1, 3), (0, 2))]) and not covered(square, []) and not covered(square, rows[:1])
    pinwheel = [box((0, 1), (0, 2)), box((1, 3), (0, 1)), box((2, 3), (1, 3)), box((0, 2), (2, 3)), box((1, 2), (1, 2))]  # no cut misses all of them
    assert covered(box((0, 3), (0, 3)), pinwheel) and not covered(box((0, 3), (0, 3)), pinwheel[:4])
    assert not covered(square, [box((0, 1), (0, 1)), box((1, 2), (1, 2)), box((0, 1), (1, 2))])


def test_parts_are_parts_of_the_same_cases() -> None:
    one, other = ((Atom((("Y", i, Fraction(1)),), Fraction(0)),) for i in (0, 1))
    whole, halves = box((0, 2)), [box((0, 1)), box((1, 2))]
    assert covers({one: [whole], other: [whole]}, [{one: [h], other: [h]} for h in halves])
    assert not covers({one: [whole], other: [whole]}, [{one: [halves[0]], other: [halves[0]]}, {one: [halves[1]]}])
    assert not covers({one: [whole]}, [{other: [whole]}]) and not covers({}, [])


def test_regions_are_halved() -> None:
    region = Region((box((0, "0.1"), (1, 1)),))
    low, high = (region.half(0, upper) for upper in (False, True))
    assert low.boxes[0][1][0] == high.boxes[0][0][0] == Fraction(float(campaigns.np.float32(0.05)))
    several = Region(tuple(box((i, i)) for i in range(3)))
    assert [r.boxes for r in (several.half(None, False), several.half(None, True))] == [several.boxes[:1], several.boxes[1:]]
    huge = Region((box((10**400, 10**400 + 2)),))
    assert huge.half(0, False).boxes[0][1][0] == 10**400 + 1
    for wrong, axis in ((region, 1), (region, 2), (region, -1), (region, None), (several, 0)):
        with pytest.raises(UsageError):
            wrong.half(axis, True)


def rows(**status: str) -> dict[str, Row]:
    """Rows of the query c/000000 and its parts: `whole`, `l`, `h`, `ll`, ...; all halved along x[0]; "split" is unknown and divided."""
    made = {}
    for name, said in status.items():
        part = "" if name == "whole" else "".join(f"_0{side}" for side in name)
        facts: Mapping[str, Any] = {"split": {"axis": 0}} if said == "split" else {}
        made[f"c/000000{part}"] = Row("unknown" if said == "split" else said, facts)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(("known", "settled", "asked"), [
    ({}, None, ["whole"]), ({"whole": "unknown"}, "unknown", ["whole"]), ({"whole": "split"}, None, ["whole", "l", "h"]),
    ({"whole": "split", "l": "falsified"}, "falsified", ["whole", "l", "h"]),
    ({"whole": "split", "l": "certified", "h": "certified"}, "certified", ["whole", "l", "h"]),
    ({"whole": "split", "l": "certified", "h": "claimed"}, None, ["whole", "l", "h"]),
    ({"whole": "split", "l": "split", "h": "claimed"}, None, ["whole", "l", "h"]),
    ({"whole": "split", "l": "split", "h": "falsified"}, "falsified", ["whole", "l", "h"]),
    ({"whole": "split", "l": "split", "h": "certified"}, None, ["whole", "l", "h", "ll", "lh"]),
    ({"whole": "split", "l": "split", "h": "unknown", "ll": "certified", "lh": "certified"}, "unknown", ["whole", "l", "h", "ll", "lh"]),
    ({"whole": "split", "l": "split", "h": "certified", "ll": "certified", "lh": "certified"}, "certified", ["whole", "l", "h", "ll", "lh"]),
])
def test_what_parts_say_together_and_what_is_asked_next(known: dict[str, str], settled: str | None, asked: list[str]) -> None:
    key = Key("c", None, 0)
    assert plan.settled(key, rows(**known)) == settled
    names = {"whole": "", **{name: "".join(f"_0{side}" for side in name) for name in asked if name != "whole"}}
    assert [k.folder for k in plan.with_parts(key, rows(**known))] == [f"c/000000{names[name]}" for name in asked]


def campaign(tmp_path: Path, say: Callable[[Job], dict[str, Any]], region: str, split: int) -> tuple[dict[str, Row], Key]:
    """The rows of a campaign about the sample (0.75, 0.35), certified within radii below 0.2."""
    model, values = campaigns.write_larger_wins(tmp_path)
    subjects = Subjects(read_model(model), data.read(values), policy.completed(Policy(()), [region], "top1", None))
    store = Store(tmp_path / "e", {})
    try:
        Campaign(subjects, lambda _: [0], store, Budget(timeout=60.0, nodes=20, split=split), Liar(say), lambda *_: None).run()
        return dict(store.rows), next(iter(plan.wanted(subjects.policy, lambda _: [0], {})))
    finally:
        store.close()


def test_a_query_that_no_part_decides_ends_at_its_depth(tmp_path: Path) -> None:
    found, key = campaign(tmp_path, lambda _: {"result": result("unknown", reason="nodes")}, "linf:0.1", 2)
    assert len(found) == 7 and plan.settled(key, found) == "unknown"
    assert all(bool(row.facts.get("split")) == (name.count("_") < 2) for name, row in found.items())


@pytest.mark.parametrize("reason", ["certificate-rejected", "margin"])
def test_only_what_a_smaller_box_may_change_is_divided(tmp_path: Path, reason: str) -> None:
    found, _ = campaign(tmp_path, lambda _: {"result": result("unknown", reason=reason)}, "linf:0.1", 1)
    assert len(found) == (3 if reason == "certificate-rejected" else 1)


def test_a_counterexample_in_a_part_is_one_of_the_whole(tmp_path: Path) -> None:
    """Divided along x[1]; a part that crashes leaves the rest as it is."""

    def say(job: Job) -> dict[str, Any]:
        if job.key.endswith("_1h"):
            return {"result": result("sat", [0.5, 0.5])}
        return {"crash": "killed by SIGSEGV"} if job.key.endswith("_1l") else {"result": result("unknown", reason="time")}

    found, key = campaign(tmp_path, say, "linf:0.25", 3)
    assert sorted(found) == ["linf/0.25/000000", "linf/0.25/000000_1h", "linf/0.25/000000_1l"] and plan.settled(key, found) == "falsified"


class Hasty(Liar):
    """Answers the last of three first, and is gone after so many answers."""

    def __init__(self, say: Callable[[Job], dict[str, Any]], most: int) -> None:
        super().__init__(say)
        self._most = most

    @property
    def idle(self) -> int:
        return 3 - len(self._jobs)

    def step(self, seconds: float) -> Iterator[Ended]:
        for ended in super().step(seconds):
            self._most -= 1
            if self._most < 0:
                raise Stopped("killed")
            yield ended


@pytest.mark.parametrize("most", range(12))
def test_what_is_asked_does_not_depend_on_order_nor_on_stops(tmp_path: Path, most: int) -> None:
    """Three levels of two samples: one ends with a counterexample, one has parts that nothing decides. Stopped after `most` answers and continued,
    several at a time in another order: the same rows as one after the other."""

    def say(job: Job) -> dict[str, Any]:
        if job.key.startswith("linf/0.25/000000_") and job.key.count("_") == 2:
            x = [0.5, 0.5] if job.key.endswith("_1h_0l") else [0.0, 0.0]
            return {"result": result("sat", x) if x[0] else result("unknown", reason="nodes")}
        return {"result": result("unknown", reason="margin" if job.key.endswith("0l") else "nodes")}

    model, values = campaigns.write_larger_wins(tmp_path)
    subjects = Subjects(read_model(model), data.read(values), policy.completed(Policy(()), ["linf:0.25"], "top1", None))
    found = []
    for folder, pools in (("once", [Liar(say)]), ("often", [Hasty(say, most), Hasty(say, 99)])):
        for pool in pools:
            store = Store(tmp_path / folder, {})
            try:
                Campaign(subjects, lambda _: [0, 1], store, Budget(timeout=60.0, nodes=20, split=3), pool, lambda *_: None).run()
            except Stopped:
                assert len(store.rows) == most
            finally:
                store.close()
        found.append(store.rows)
    assert found[0] == found[1] and len(found[0]) > 12
    assert [plan.settled(Key("linf", Fraction(1, 4), i), found[0]) for i in (0, 1)] == ["falsified", "unknown"]


def test_a_counterexample_outside_of_its_part_is_none(tmp_path: Path) -> None:
    def say(job: Job) -> dict[str, Any]:
        return {"result": result("sat", [0.5, 0.5]) if job.key.endswith("_1l") else result("unknown", reason="time")}

    found, key = campaign(tmp_path, say, "linf:0.25", 1)
    assert plan.settled(key, found) == "unknown"


def test_a_list_of_boxes_is_halved_as_a_list(tmp_path: Path) -> None:
    model, values = campaigns.write_larger_wins(tmp_path)
    asked = policy.from_plain({"preprocess": {"range": [0, 1]}, "check": [{"region": "l0", "radius": 1}]}, "test")
    subjects = Subjects(read_model(model), data.read(values), asked)
    whole = subjects.question(Key("l0", Fraction(1), 0))
    assert parts.axis(whole) == (None,)
    halves = [subjects.question(key) for key in Key("l0", Fraction(1), 0).halves(None)]
    assert [q.region.boxes for q in halves] == [whole.region.boxes[:1], whole.region.boxes[1:]] and halves[0].model == whole.model
    assert parts.axis(halves[0]) == (0,)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign in which one node is not enough for one of three queries; its two halves are certified."""
    folder = tmp_path_factory.mktemp("parts")
    model, values = campaigns.write_random(folder, 3)
    done = soundproof("certify", model, "--data", values, "--out", folder / "evidence", "--region", "linf:0.115", "--nodes", "1", "--split", "4",
                      "--jobs", "1")
    assert done.returncode == 0, done.stderr
    return folder / "evidence"


def divided(plain: dict[str, Any]) -> dict[str, Any]:
    return next(q for q in plain["queries"] if q["split"])


def test_a_query_in_parts_is_certified_and_rechecked(evidence: Path) -> None:
    plain = json.loads((evidence / "report.json").read_text())
    whole = divided(plain)
    assert whole["status"] == "certified" and whole["certificate"] is None and whole["reason"] is None and whole["parts"] == len(plain["parts"]) > 1
    assert all((evidence / q["certificate"]["path"]).exists() for q in plain["parts"] if q["status"] == "certified")
    assert plain["checks"][0]["table"][0]["unknown"] == 0
    found = recheck(evidence, 60, 8, 1, lambda _: None)
    assert not found.wrong and found.divided == 1 and found.undecided == 0


def drop_a_part(plain: dict[str, Any]) -> None:
    plain["parts"].pop()


def other_axis(plain: dict[str, Any]) -> None:
    divided(plain)["split"] = {"axis": divided(plain)["split"]["axis"] + 1}


def say_falsified(plain: dict[str, Any]) -> None:
    divided(plain)["status"] = "falsified"


def say_that_it_was_not_divided(plain: dict[str, Any]) -> None:
    divided(plain)["split"] = None


def give_it_a_certificate_of_a_part(plain: dict[str, Any]) -> None:
    divided(plain)["certificate"] = plain["parts"][0]["certificate"]


def twice_the_same_part(plain: dict[str, Any]) -> None:
    plain["parts"][1] = plain["parts"][0]


def part_of_nothing(plain: dict[str, Any]) -> None:
    plain["parts"][0]["key"] += "_99l"


def no_axis(plain: dict[str, Any]) -> None:
    divided(plain)["split"] = {"axis": "0"}


@pytest.mark.parametrize("forge", [drop_a_part, other_axis, say_falsified, say_that_it_was_not_divided, give_it_a_certificate_of_a_part,
                                   twice_the_same_part, part_of_nothing, no_axis])
def test_recheck_finds_parts_that_are_not_the_whole(evidence: Path, tmp_path: Path, forge: Callable[[dict[str, Any]], None]) -> None:
    copy = Path(shutil.copytree(evidence, tmp_path / "copy"))
    plain = json.loads((copy / "report.json").read_text())
    forge(plain)
    (copy / "report.json").write_text(canonical(plain))
    write_hashes(copy)
    if forge in (twice_the_same_part, no_axis):
        with pytest.raises(CertifyError):
            recheck(copy, 60, 8, 1, lambda _: None)
    else:
        assert recheck(copy, 60, 8, 1, lambda _: None).wrong


def test_the_whole_is_read_from_its_own_file(evidence: Path) -> None:
    """The cover that recheck shows is that of the files: of the query as it was asked, and of the parts as they were proven."""
    plain = json.loads((evidence / "report.json").read_text())
    whole = parts.cases(evidence / divided(plain)["property"]["path"])
    leaves = [parts.cases(evidence / q["property"]["path"]) for q in plain["parts"] if not q["split"]]
    assert covers(whole, leaves) and not covers(whole, leaves[:-1]) and not covers(whole, leaves[1:])
