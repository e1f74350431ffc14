"""The policy of a campaign: what is varied, what must hold, how samples are prepared, which gates have to be passed.

Read from TOML, completed from options, and kept in the evidence as JSON (`to_plain`), from which `recheck` reads it again.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.certify import exact
from benchmarks.certify.data import Columns
from benchmarks.certify.errors import UsageError, unknown_key

LAYOUTS = ("", "HWC->CHW", "CHW->HWC")
MOST_STEPS = 30

# What each kind of region and of property may say, besides `name`, `region`, `radius`, `property`: [[check]] of a policy.
REGIONS: Mapping[str, tuple[str, ...]] = {
    "point": (),
    "linf": ("features",),
    "l1": ("features",),
    "l2": ("features",),
    "l0": ("features",),
    "ranges": ("ranges", "groups"),
    "patch": (),
    "brightness": ("brightness", "contrast"),
    "geometry": ("rotation", "shift"),
    "words": ("words", "synonyms"),
}
PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "top1": ("threshold",),
    "topk": ("k",),
    "targeted": ("target",),
    "range": ("lower", "upper"),
    "monotone": ("feature", "step", "tolerance", "direction", "output"),
    "fairness": ("feature", "values", "tolerance", "output"),
    "vnnlib": ("unsafe",),
}


@dataclass(frozen=True)
class Preprocess:
    """(sample * scale - mean) / std, then the layout, in float32; what it says is part of the network. `low`, `high`: the range of values."""

    scale: Fraction | None = None
    mean: tuple[Fraction, ...] = ()
    std: tuple[Fraction, ...] = ()
    layout: str = ""
    low: Fraction | None = None
    high: Fraction | None = None

    @property
    def plain(self) -> bool:
        """Whether samples are the model's input but for their shape."""
        return self.scale is None and not self.mean and not self.std and not self.layout

    def channel_axis(self, shape: tuple[int, ...]) -> int:
        """Along which axis mean and std go: channels of images, features of tables."""
        return 0 if len(shape) == 3 and self.layout != "HWC->CHW" else len(shape) - 1


@dataclass(frozen=True)
class Check:
    """One kind of query, made for every sample, and for every radius if there are any. `bisect`: find the largest radius up to radii[0], in so
    many steps. `settings`: what else the region and the property say, as JSON."""

    name: str
    region: str
    property: str = "top1"
    radii: tuple[Fraction, ...] = ()
    bisect: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """Everything that decides what is asked. `most`: only so many samples, from `first` on."""

    checks: tuple[Check, ...]
    preprocess: Preprocess = Preprocess()
    columns: Columns = field(default_factory=Columns)
    output: str | None = None
    gates: tuple[str, ...] = ()
    first: int = 0
    most: int | None = None


def read(path: Path) -> Policy:
    """The policy in a TOML file. Raises UsageError with file, key and what may have been meant."""
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=str)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return from_plain(plain, str(path))


def from_plain(plain: Mapping[str, Any], place: str) -> Policy:
    """The policy of a mapping, as TOML or `to_plain` gives it. Raises UsageError."""
    _only(place, plain, ("model", "data", "preprocess", "check", "gates", "schema"))
    if plain.get("schema", 1) != 1:
        raise UsageError(f"{place}: schema {plain['schema']!r}; this version reads schema 1")
    model = _table(place, plain, "model", ("output",))
    data = _table(place, plain, "data", ("label", "id", "features", "classes", "shape", "first", "samples"))
    columns = Columns(
        _text(f"{place} [data] label", data.get("label")), _text(f"{place} [data] id", data.get("id")),
        _texts(f"{place} [data] features", data.get("features", ())), _texts(f"{place} [data] classes", data.get("classes", ())),
        tuple(_count(f"{place} [data] shape", n, 1) for n in _list(f"{place} [data] shape", data.get("shape", ()))),
    )
    most = data.get("samples")
    return checked(Policy(
        tuple(_check(f"{place} [[check]] {number}", one) for number, one in enumerate(_list(f"{place} check", plain.get("check", ())), 1)),
        _preprocess(place, plain), columns, _text(f"{place} [model] output", model.get("output")),
        _texts(f"{place} gates", plain.get("gates", ())), _count(f"{place} [data] first", data.get("first", 0), 0),
        None if most is None else _count(f"{place} [data] samples", most, 1),
    ), place)


def checked(policy: Policy, place: str) -> Policy:
    """The policy, if its checks have names of their own."""
    names = [check.name for check in policy.checks]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{place}: two checks are called {name!r}; give them names of their own")
    return policy


def _preprocess(place: str, plain: Mapping[str, Any]) -> Preprocess:
    given = _table(place, plain, "preprocess", ("scale", "mean", "std", "layout", "range"))
    place = f"{place} [preprocess]"
    layout = given.get("layout", "")
    if layout not in LAYOUTS:
        raise UsageError(f"{place}: layout {layout!r}; known: {', '.join(filter(None, LAYOUTS))}")
    scale = None if given.get("scale") is None else exact.number(given["scale"], f"{place} scale")
    mean, std = (tuple(exact.number(v, f"{place} {key}") for v in _list(place, given.get(key, ()))) for key in ("mean", "std"))
    if any(v <= 0 for v in std) or (scale is not None and scale <= 0):
        raise UsageError(f"{place}: scale and std must be positive")
    ends = [exact.number(v, f"{place} range") for v in _list(place, given.get("range", ()))]
    if ends and (len(ends) != 2 or ends[0] >= ends[1]):
        raise UsageError(f"{place}: range is [lowest, highest]")
    low, high = ends or (None, None)
    return Preprocess(scale, mean, std, layout, low, high)


def _check(place: str, plain: object) -> Check:
    if not isinstance(plain, Mapping):
        raise UsageError(f"{place}: expected a table")
    region, prop = plain.get("region"), plain.get("property", "top1")
    if region not in REGIONS:
        raise UsageError(f"{place}: region {region!r}; known: {', '.join(REGIONS)}")
    if prop not in PROPERTIES:
        raise UsageError(f"{place}: property {prop!r}; known: {', '.join(PROPERTIES)}")
    _only(place, plain, ("name", "region", "property", "radius", "bisect", *REGIONS[region], *PROPERTIES[prop]))
    given = plain.get("radius", ())
    radii = tuple(exact.number(v, f"{place} radius") for v in (given if isinstance(given, list | tuple) else [given]))
    if any(r < 0 for r in radii) or len(set(radii)) != len(radii):
        raise UsageError(f"{place}: radii must be 0 or more, and each once")
    bisect = _count(f"{place} bisect", plain.get("bisect", 0), 0)
    if bisect and (len(radii) != 1 or bisect > MOST_STEPS or radii[0] == 0):
        raise UsageError(f"{place}: bisect is a number of steps, at most {MOST_STEPS}, towards one positive radius")
    settings = {k: plain_json(f"{place} {k}", v) for k, v in plain.items() if k not in ("name", "region", "property", "radius", "bisect")}
    name = plain.get("name", region if prop == "top1" else f"{region}-{prop}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
        raise UsageError(f"{place}: the name {name!r} must be of letters, digits, dots, dashes and underscores")
    return Check(name, region, prop, radii, bisect, settings)


def plain_json(place: str, value: Any) -> Any:
    """A value of TOML as JSON: numbers stay as they are written."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return [plain_json(place, v) for v in value]
    if value is None:
        return value
    if isinstance(value, Mapping):
        return {str(k): plain_json(place, v) for k, v in value.items()}
    raise UsageError(f"{place}: {value!r} is neither text, number, list nor table")


def to_plain(policy: Policy) -> dict[str, Any]:
    """The policy as JSON; `from_plain` reads it back to an equal one."""
    columns, prepared = policy.columns, policy.preprocess
    return {
        "schema": 1,
        "model": _without_none({"output": policy.output}),
        "data": _without_none({
            "label": columns.label, "id": columns.id, "features": list(columns.features), "classes": list(columns.classes),
            "shape": list(columns.shape), "first": policy.first, "samples": policy.most,
        }),
        "preprocess": _without_none({
            "scale": None if prepared.scale is None else exact.text(prepared.scale), "mean": [exact.text(v) for v in prepared.mean],
            "std": [exact.text(v) for v in prepared.std], "layout": prepared.layout,
            "range": [] if prepared.low is None or prepared.high is None else [exact.text(prepared.low), exact.text(prepared.high)],
        }),
        "check": [
            {"name": c.name, "region": c.region, "property": c.property, "radius": [exact.text(r) for r in c.radii], "bisect": c.bisect, **c.settings}
            for c in policy.checks
        ],
        "gates": list(policy.gates),
    }


def canonical(plain: Mapping[str, Any]) -> str:
    """JSON in one form, to compare and to hash."""
    return json.dumps(plain, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def completed(policy: Policy, regions: Iterable[str], prop: str, bisect: str | None) -> Policy:
    """The policy with checks from options: `linf:1/255,2/255`, a property for all of them, and `MAX[:STEPS]` for bisection. Raises UsageError."""
    plain = []
    for text in regions:
        kind, _, radii = text.partition(":")
        named, _, argument = prop.partition(":")
        key = {"topk": "k", "targeted": "target"}.get(named)
        settings = {key: int(argument)} if key is not None and argument.isdigit() else {}
        if argument and not settings:
            raise UsageError(f"--property {prop}: expected top1, topk:K or targeted:CLASS; others stand in a policy")
        one = {"region": kind, "property": named, "radius": [r.strip() for r in radii.split(",") if r.strip()], **settings}
        if bisect is not None:
            largest, _, steps = bisect.partition(":")
            if steps and not steps.isdigit():
                raise UsageError(f"--radius {bisect}: expected MAX or MAX:STEPS")
            plain.append({**one, "name": f"{kind}-radius", "radius": largest, "bisect": int(steps or 8)})
        if bisect is None or one["radius"]:
            plain.append(one)
    checks = tuple(_check(f"--region {one['region']}", one) for one in plain)
    return checked(replace(policy, checks=(*policy.checks, *checks)), "options")


def prepared(policy: Policy, given: Sequence[str]) -> Policy:
    """The policy with preprocessing from options, KEY=VALUE as the table [preprocess] has it: `scale=1/255`, `mean=0.5,0.4,0.4`, `layout=HWC->CHW`,
    `range=0,255`. What the policy says of the same key is replaced. Raises UsageError."""
    plain = dict(to_plain(policy)["preprocess"])
    for text in given:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--preprocess {text}: expected KEY=VALUE, like scale=1/255")
        plain[key.strip()] = [v.strip() for v in value.split(",")] if key.strip() in ("mean", "std", "range") else value.strip()
    return replace(policy, preprocess=_preprocess("--preprocess", {"preprocess": plain}))


def _without_none(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in plain.items() if v is not None}


def _only(place: str, plain: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in plain:
        if key not in known:
            raise unknown_key(place, key, known)


def _table(place: str, plain: Mapping[str, Any], name: str, known: Sequence[str]) -> Mapping[str, Any]:
    given = plain.get(name, {})
    if not isinstance(given, Mapping):
        raise UsageError(f"{place}: [{name}] must be a table")
    _only(f"{place} [{name}]", given, known)
    return given


def _list(place: str, value: object) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{place}: expected a list, not {value!r}")
    return value


def _text(place: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{place}: expected a text, not {value!r}")
    return value


def _texts(place: str, value: object) -> tuple[str, ...]:
    return tuple(_text(place, v) or "" for v in _list(place, value))


def _count(place: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{place}: expected a whole number, {least} or more, not {value!r}")
    return value
