"""Writes tests/certificates/: python -m tests.checker.make_corpus

Every file is made by hand here, so that it stays what it is when engine and checker change. Files of `valid/` are never made
again once their format is released: add new names instead.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.checker import build, small
from tests.checker.build import Draft, Member, Records, clip, described, empty, forms, leaf, multipliers, pack, refine, rows, split, unpack, zip_file

FOLDER = Path(__file__).resolve().parents[1] / "certificates"
MODEL = small.model()
PROPERTIES = {
    "above-3.5": small.text("(>= Y_0 3.5)"),  # closed at the root
    "above-2.5": small.text("(>= Y_0 2.5)"),  # needs splits or clipping
    "above-2.1": small.text("(>= Y_0 2.1)"),  # needs them many times
    "above-4.5": small.text("(>= Y_0 4.5)"),  # closed by intervals
    "above-2.01": small.text("(>= Y_0 2.01)"),  # needs them more often than the checker halves a leaf by itself
    "above-1.9": small.text("(>= Y_0 1.9)"),  # violated
    "two-cases": small.text("(or (>= Y_0 4.5) (<= Y_0 -0.5))"),
    "vacuous": small.text("(or (>= Y_0 4.5) (and (>= X_0 2) (>= Y_0 0)))"),
}
X, H = 0, 1  # tensors: the input, the pre-activations


def draft(name: str, *records: Records, cases: tuple[tuple[int, ...], ...] = ((0,),), program: int = 0, semantics: str = "real") -> bytes:
    """One tree for each set of cases."""
    found = Draft(MODEL, PROPERTIES[name], semantics)
    found.input("X")
    found.site("r", 0)
    found.slopes()
    found.slopes((H, 1, [0, 1]), (H, 0, [1]))
    for members, stream in zip(cases, records, strict=True):
        found.tree(members, stream, program)
    return found.bytes()


def phases(last: Records) -> Records:
    """Both ReLUs decided on every path; where the input excludes a path its splits alone do, `last`."""
    decided = split(H, 0, 0.0, leaf(), split(H, 1, 0.0, leaf(), leaf()))
    return split(X, 0, -0.5, split(H, 0, 0.0, leaf(), split(H, 1, 0.0, leaf(), last)), decided)


INFEASIBLE = multipliers(0, gamma=[0], beta=[1, 1])  # -(h_0 + h_1) = -2 X_0 >= 1
ONCE, BELOW, SLOPED = build.within(0, [1.0]), build.within(0, [1.0], beta=[0.0]), build.within(1, [1.0], [0.5, 0.5, 0.0])
STORED = multipliers(1, gamma=[1], slope=[0.5, 0.5, 1.0])
VALID = {
    "root": ("above-3.5", draft("above-3.5", leaf())),
    "root-refined": ("above-3.5", draft("above-3.5", leaf(), program=1)),
    "root-forward": ("above-3.5", draft("above-3.5", leaf(), program=2)),
    "root-float32": ("above-3.5", draft("above-3.5", leaf(), semantics="float32")),
    "stored-slopes": ("above-3.5", draft("above-3.5", STORED)),
    "forms": ("above-2.5", draft("above-2.5", forms() + split(X, 0, 0.4, leaf(1), leaf()))),
    "clip": ("above-2.5", draft("above-2.5", forms() + clip() + leaf())),
    "clip-after-split": ("above-2.5", draft("above-2.5", forms() + split(X, 1, 0.0, clip() + leaf(), clip() + leaf()))),
    "phases": ("above-2.5", draft("above-2.5", phases(INFEASIBLE))),
    "derived": ("above-2.5", draft("above-2.5", refine() + rows(H, 0, [0, 3]) + forms() + clip() + refine() + leaf())),
    "within": ("above-2.5", draft("above-2.5", SLOPED + leaf())),
    "within-above-and-below": ("above-2.1", draft("above-2.1", ONCE + split(H, 0, 1.0, *[BELOW * 3 + leaf()] * 2))),
    "within-float32": ("above-2.5", draft("above-2.5", ONCE + leaf(), semantics="float32")),
    "within-closes": ("above-4.5", draft("above-4.5", ONCE + leaf(1))),
    "rows-with-slopes": ("above-3.5", draft("above-3.5", rows(H, 1, [1, 2], [0.5, 0.25, 0.0, 1.0, 0.5, 0.5]) + leaf())),
    "empty": ("above-3.5", draft("above-3.5", split(H, 0, 3.0, leaf(), empty(H, 0)))),
    "two-cases-one-tree": ("two-cases", draft("two-cases", leaf(), cases=((1, 0),))),
    "two-cases-two-trees": ("two-cases", draft("two-cases", leaf(), forms() + leaf(1), cases=((1,), (0,)))),
    "vacuous-case": ("vacuous", draft("vacuous", leaf())),
}
TAMPERED = {
    "violated": ("above-1.9", "leaf", draft("above-1.9", forms() + clip() + leaf())),
    "violated-and-split": ("above-1.9", "leaf", draft("above-1.9", phases(INFEASIBLE))),
    "not-split": ("above-2.01", "leaf", draft("above-2.01", leaf())),
    "within-violated": ("above-1.9", "leaf", draft("above-1.9", ONCE * 9 + leaf())),
    "within-next-door": ("above-2.01", "leaf", draft("above-2.01", split(X, 1, 0.0, ONCE + leaf(), leaf()))),
    "within-of-nothing": ("above-2.01", "leaf", draft("above-2.01", build.within(0, [0.0]) + leaf())),
    "within-huge-slopes": ("above-2.5", "not-finite", draft("above-2.5", build.within(1, [1.0], [1e308, -1e308, 1e308]) + leaf())),
    "no-betas": ("above-2.5", "leaf", draft("above-2.5", phases(multipliers(0, gamma=[0], beta=[0, 0])))),
    "one-beta": ("above-2.5", "leaf", draft("above-2.5", phases(multipliers(0, gamma=[0], beta=[1, 0])))),
    "all-zero": ("above-3.5", "leaf", draft("above-3.5", multipliers(0, gamma=[0]))),
    "bad-slopes": ("above-3.5", "leaf", draft("above-3.5", multipliers(1, gamma=[1], slope=[5, -5, 0]))),
    "huge-slopes": ("above-3.5", "not-finite", draft("above-3.5", multipliers(1, gamma=[1], slope=[1e308, -1e308, 1e308]))),
    "not-empty": ("above-3.5", "leaf", draft("above-3.5", split(H, 0, 1.0, leaf(), empty(H, 0)))),
    "empty-elsewhere": ("above-3.5", "leaf", draft("above-3.5", split(H, 0, 3.0, leaf(), empty(H, 1)))),
    "no-forms": ("above-3.5", "no-forms", draft("above-3.5", leaf(1))),
    "clip-without-forms": ("above-3.5", "no-forms", draft("above-3.5", clip() + leaf())),
    "split-at-the-edge": ("above-3.5", "threshold", draft("above-3.5", split(X, 0, 1.0, leaf(), leaf()))),
    "split-outside": ("above-3.5", "threshold", draft("above-3.5", split(X, 0, -7.0, leaf(), leaf()))),
    "split-twice-at-one-place": ("above-3.5", "threshold", draft("above-3.5", split(X, 0, 0.0, leaf(), split(X, 0, 0.0, leaf(), leaf())))),
    "one-case-open": ("two-cases", "leaf", draft("two-cases", forms() + leaf(1), multipliers(0, gamma=[0]), cases=((0,), (1,)))),
}  # fmt: skip
CASES = {"case-missing": ((0,),), "case-twice": ((0,), (1,), (0,)), "case-unknown": ((0,), (1,), (2,))}


def malformed() -> dict[str, tuple[str, str, bytes]]:
    """Property, rule and bytes of files that are no certificates for it; tests/checker/test_certificate.py has many more."""
    good = VALID["phases"][1]
    manifest, columns = unpack(good)
    text = json.dumps({"arrays": described(columns), **manifest}).encode()
    members = [Member("manifest.json", text), *(Member(name, column.tobytes()) for name, column in columns.items())]
    slope = next(k for k, member in enumerate(members) if member.name == "beta")

    def swapped(member: Member) -> bytes:
        return zip_file([*members[:slope], member, *members[slope + 1 :]])

    def changed(column: str, place: int, value: int) -> bytes:
        found = columns[column].copy()
        found[place] = value
        return pack(manifest, {**columns, column: found})

    beta = members[slope]
    longer = {"op": np.append(columns["op"], np.uint8(1)), "arg": np.append(columns["arg"], np.int32(0))}
    found = {
        "cut-off": ("zip", good[:-30]),
        "leading-bytes": ("zip", zip_file(members, before=b"#!/bin/sh\n")),
        "trailing-bytes": ("zip", good + b"\0"),
        "two-directories": ("zip", good + good),
        "member-twice": ("zip", zip_file([*members[:-1], members[1]])),
        "bomb": ("zip", swapped(replace(beta, data=bytes(1 << 22), local={"size": 16}, central={"size": 16}))),
        "big": ("limit", swapped(replace(beta, data=bytes(1), local={"size": 1 << 31}, central={"size": 1 << 31}))),
        "wrong-crc": ("zip", swapped(replace(beta, local={"crc": 7}, central={"crc": 7}))),
        "npy": ("column", swapped(replace(beta, data=b"\x93NUMPY\x01\x00" + beta.data))),
        "newer-format": ("version", pack({**manifest, "format": 2}, columns)),
        "format-true": ("version", pack({**manifest, "format": True}, columns)),
        "another-semantics": ("semantics", pack({**manifest, "semantics": "float16"}, columns)),
        "another-model": ("hash", pack({**manifest, "model": "0" * 64}, columns)),
        "another-property": ("hash", pack({**manifest, "property": manifest["model"]}, columns)),
        "unknown-site": ("tensors", pack({**manifest, "tensors": [*manifest["tensors"], {"tensor": "h", "site": 0, "argument": 0}]}, columns)),
        "second-argument": ("tensors", pack({**manifest, "tensors": [*manifest["tensors"], {"tensor": "r", "site": 0, "argument": 1}]}, columns)),
        "void-dtype": ("column", pack({**manifest, "arrays": {**described(columns), "slope": {"dtype": "|V0", "shape": [10**15]}}}, columns)),
        "dropped-child": ("stream", pack(manifest, {**columns, "op": columns["op"][:-1], "arg": columns["arg"][:-1]})),
        "added-child": ("stream", pack(manifest, {**columns, **longer})),
        "element-2-of-2": ("index", changed("arg", 1, 2)),
        "element-negative": ("numbers", changed("arg", 1, -1)),
        "beta-negative": ("numbers", pack(manifest, {**columns, "beta": -columns["beta"]})),
        "beta-missing": ("stream", pack(manifest, {**columns, "beta": columns["beta"][:-1]})),
        "gamma-nan": ("numbers", pack(manifest, {**columns, "gamma": columns["gamma"] * np.nan})),
        "threshold-infinite": ("numbers", pack(manifest, {**columns, "threshold": columns["threshold"] + np.inf})),
        "shift-for-no-softmax": ("shift", pack(manifest, {**columns, "shift": np.zeros(1)})),
    }  # fmt: skip
    one = SLOPED[0]
    for name, rule, record in (
        ("within-no-slopes", "stream", one._replace(slope=())),
        ("within-two-gammas", "stream", one._replace(gamma=(1.0, 1.0))),
        ("within-beta-of-no-split", "stream", one._replace(beta=(1.0,))),
        ("within-gamma-negative", "numbers", one._replace(gamma=(-1.0,))),
        ("within-gamma-infinite", "numbers", one._replace(gamma=(np.inf,))),
        ("within-slope-nan", "numbers", one._replace(slope=(0.5, np.nan, 0.0))),
        ("within-no-set", "index", one._replace(args=(2,))),
        ("within-no-arguments", "stream", one._replace(args=())),
    ):
        found[name] = rule, draft("above-2.5", [record, *leaf()])
    below = build.within(0, [1.0], beta=[-1.0])
    found["within-beta-negative"] = "numbers", draft("above-2.5", split(H, 0, 0.0, below + leaf(), leaf()))
    two = draft("two-cases", ONCE + leaf(), cases=((0, 1),))
    return {name: ("above-2.5", rule, data) for name, (rule, data) in found.items()} | {"within-two-cases": ("two-cases", "stream", two)} | {
        name: ("two-cases", "cases", draft("two-cases", *[leaf()] * len(cases), cases=cases)) for name, cases in CASES.items()
    }


def write() -> None:
    """All files, next to the ones that others have put there."""
    groups = {
        "valid": {name: (of, None, data) for name, (of, data) in VALID.items()},
        "tampered": TAMPERED,
        "malformed": malformed(),
    }
    for folder in ("models", *groups):
        (FOLDER / folder).mkdir(parents=True, exist_ok=True)
    (FOLDER / "models/small.onnx").write_bytes(MODEL)
    for name, text in PROPERTIES.items():
        (FOLDER / f"models/{name}.vnnlib").write_bytes(text)
    outcomes = {"valid": "accepted", "tampered": "rejected", "malformed": "malformed"}
    for folder, entries in groups.items():
        for name, (of, rule, data) in entries.items():
            (FOLDER / folder / f"{name}.cert").write_bytes(data)
            facts = {"model": "models/small.onnx", "property": f"models/{of}.vnnlib", "outcome": outcomes[folder], "rule": rule}
            (FOLDER / folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
