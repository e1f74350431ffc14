"""A mutant is a few lines of a function exchanged while a process runs: the function's code is compiled again from its changed source.

Code objects are exchanged, not names, so that whoever has imported the function runs the changed one, and the files stay as they are.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any


class EditError(Exception):
    """A mutant does not fit the code any more; the message says which function and what was looked for."""


@dataclass(frozen=True)
class Edit:
    """In the function `where` ("package.module:Class.method") the text `old`, which stands there exactly once, becomes `new`."""

    where: str
    old: str
    new: str


@dataclass(frozen=True)
class Setting:
    """The module's constant `where` ("package.module:NAME") becomes `value`."""

    where: str
    value: Any


Change = Edit | Setting


@dataclass(frozen=True)
class Mutant:
    """A broken engine or checker. `row`: the row of the bug catalogues that it is named after, or "invented"; `about`: what is wrong, a sentence.

    `off` names guards (GUARDS) that would stop it before it can say anything, and that other tools do not have: they are taken out when it
    is asked for a lie. `attack`: it lies about witnesses, so the attack is on. `setup` names a set of changes (SETUPS) without which the
    broken code would not be run on small instances, and which break nothing. `note`: why no instance of the suite shows it, if so.
    """

    name: str
    area: str
    row: str
    about: str
    changes: tuple[Change, ...]
    off: tuple[str, ...] = ()
    attack: bool = False
    setup: str = ""
    semantics: str = "real"
    note: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """The functions and constants that are changed."""
        return tuple(dict.fromkeys(change.where for change in self.changes))


def found(where: str) -> tuple[Any, str, Any]:
    """(owner, name, object) of "package.module:path"; methods and properties as they stand in the class. Raises EditError."""
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    try:
        for part in outer:
            owner = inspect.getattr_static(owner, part)
        return owner, name, inspect.getattr_static(owner, name)
    except AttributeError as error:
        raise EditError(f"{where}: there is no such thing") from error


def function(where: str) -> FunctionType:
    """The plain function, under whatever decorators. Raises EditError."""
    _, _, item = found(where)
    if isinstance(item, property):
        item = item.fget
    elif isinstance(item, cached_property):
        item = item.func
    elif isinstance(item, staticmethod | classmethod):
        item = item.__func__
    plain = inspect.unwrap(item)
    if not isinstance(plain, FunctionType):
        raise EditError(f"{where}: a {type(plain).__name__} is no function")
    return plain


def changed_code(where: str, edits: Sequence[Edit]) -> CodeType:
    """The code of the function with these edits. Raises EditError."""
    plain = function(where)
    source = textwrap.dedent(inspect.getsource(plain))
    for edit in edits:
        if source.count(edit.old) != 1:
            raise EditError(f"{where}: {edit.old!r} stands there {source.count(edit.old)} times, not once")
        source = source.replace(edit.old, edit.new)
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise EditError(f"{where}: {error}") from error
    definition = tree.body[0]
    if len(tree.body) != 1 or not isinstance(definition, ast.FunctionDef):
        raise EditError(f"{where}: not one function")
    definition.decorator_list = []
    module = compile(tree, f"<mutant of {where}>", "exec", dont_inherit=True)
    code = next(c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == definition.name)
    if code.co_freevars != plain.__code__.co_freevars:
        raise EditError(f"{where}: reads names of an enclosing function")
    return code


@contextlib.contextmanager
def applied(changes: Sequence[Change]) -> Iterator[None]:
    """The process with these changes. Raises EditError, and then nothing is changed."""
    edits: dict[str, list[Edit]] = {}
    for change in changes:
        if isinstance(change, Edit):
            edits.setdefault(change.where, []).append(change)
    codes = [(function(where), changed_code(where, list(parts))) for where, parts in edits.items()]
    settings = [(*found(change.where), change.value) for change in changes if isinstance(change, Setting)]
    before = [(plain, plain.__code__) for plain, _ in codes]
    try:
        for plain, code in codes:
            plain.__code__ = code
        for owner, name, _, value in settings:
            setattr(owner, name, value)
        _forget([where.partition(":")[0] for where in edits])
        yield
    finally:
        for plain, code in before:
            plain.__code__ = code
        for owner, name, value, _ in settings:
            setattr(owner, name, value)
        _forget([where.partition(":")[0] for where in edits])


def _forget(modules: Sequence[str]) -> None:
    """Empty the caches of functions of these modules."""
    for name in modules:
        for item in vars(_module(name)).values():
            if callable(getattr(item, "cache_clear", None)):
                item.cache_clear()


def _module(name: str) -> ModuleType:
    return sys.modules[name]


@contextlib.contextmanager
def touched(places: Sequence[str]) -> Iterator[set[str]]:
    """The set, filled while the block runs, of those of these functions that are called."""
    codes = {function(where).__code__: where for where in places}
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in codes:
            called.add(codes[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)
