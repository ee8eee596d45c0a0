"""Which function gets which event: the most exact one. Pure.

| a function takes | by |
| --- | --- |
| the topic that its name is, dots as underscores | `def public_orders(event)`, with an argument that it is given |
| what it says | `@handles("shop.*", op="insert")`; then its name counts no more |

An exact topic goes before a pattern, a pattern with more words before one with fewer, `*` before `#`, and one with `op`
before one without. Two alike that can both be meant are an error at the start.
"""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from relay import handlers
from relay.amqp.routing import takes
from relay.delivery import Event
from relay.envfile import Problem

KNOWN = tuple(handlers.ARGUMENTS)
REMEMBERED = 1000  # topics and ops whose function is remembered: any publisher can make new ones

_GIVEN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """A function, with one of the rules by which it gets events.

    Args:
        name: for people: shop.events.public_orders.
        topic: a pattern; of one that has its events by its name, nothing.
        arguments: what it is given.
        file: where it stands, for the places of its failures.
        is_async: it is an `async def`: to call it computes nothing yet.
    """

    function: Callable[..., Any]
    name: str
    topic: str
    ops: frozenset[str]
    arguments: tuple[str, ...]
    file: str
    is_async: bool

    @property
    def short(self) -> str:
        """Its own name."""
        return self.name.rpartition(".")[2]

    @property
    def words(self) -> list[str]:
        """Of its topic."""
        return self.topic.split(".")

    @property
    def is_exact(self) -> bool:
        """Is it for one topic only?"""
        return not self.topic or not {"*", "#"} & set(self.words)

    @property
    def exactness(self) -> tuple[bool, int, bool, bool]:
        """The larger goes first."""
        literal = 0 if self.is_exact else sum(word not in ("*", "#") for word in self.words)
        return self.is_exact, literal, "#" not in self.words, bool(self.ops)

    def has(self, topic: str, op: str) -> bool:
        """Does it take this?"""
        if self.ops and op not in self.ops:
            return False
        return takes(self.topic, topic) if self.topic else topic.replace(".", "_") == self.short

    def shown(self) -> str:
        """What it takes, for people."""
        ops = f" {','.join(op for op in handlers.OPS if op in self.ops)}" if self.ops else ""
        return (self.topic or f"{self.short.replace('_', '.', 1)} (its name)") + ops

    def call(self) -> str:
        """As it is called, for people."""
        return f"{self.name}({', '.join(self.arguments)})"


class Registry:
    """All functions.

    Args:
        found: of `collect`.
    """

    def __init__(self, found: Iterable[Handler]) -> None:
        self.handlers = sorted(found, key=lambda one: one.exactness, reverse=True)
        self._find = functools.lru_cache(REMEMBERED)(self._search)

    def find(self, event: Event) -> Handler | None:
        """The function for an event; None = there is none."""
        return self._find(event.topic, event.op)

    def _search(self, topic: str, op: str) -> Handler | None:
        return next((one for one in self.handlers if one.has(topic, op)), None)


def collect(modules: Sequence[ModuleType]) -> tuple[list[Handler], list[Problem], list[str]]:
    """What the modules' functions take; what is wrong with them; those that are no handlers, and why, for people."""
    found, problems, helpers = list[Handler](), list[Problem](), list[str]()
    for module in modules:
        for name, function in _functions(module):
            rules = getattr(function, "relay_rules", ())
            if not rules and (function.__module__ != module.__name__ or function.__name__ != name):
                continue  # imported, or another name for it
            full = f"{function.__module__}.{function.__name__}"
            arguments, trouble = _arguments(function)
            if not rules and (trouble or not arguments):
                helpers.append(f"{full}: {trouble or 'it takes nothing of an event'}")
            elif trouble:
                problems.append((f"{full}: {trouble}", f"what there is: {', '.join(KNOWN)}"))
            else:
                file = inspect.unwrap(function).__code__.co_filename
                said = [(rule.topic, rule.ops) for rule in rules] or [("", frozenset[str]())]
                is_async = inspect.iscoroutinefunction(function)
                found += [Handler(function, full, topic, ops, arguments, file, is_async) for topic, ops in said]
    unique = list({(one.function, one.topic, one.ops): one for one in found}.values())
    problems += [*_lost(modules, unique), *_alike(unique)]
    if not unique and not problems:
        what = f"PYTHON_HANDLERS={','.join(module.__name__ for module in modules)}: there is no function for events"
        problems.append((what, "write def public_orders(event): ..., or put @handles above one"))
    return unique, problems, helpers


def _functions(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if inspect.isfunction(value) and (not name.startswith("_") or hasattr(value, "relay_rules")):
            yield name, value


def _arguments(function: Callable[..., Any]) -> tuple[tuple[str, ...], str]:
    """What it can be given, by name; and why it can't be called, if so."""
    given: list[str] = []
    trouble = ""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        trouble = "it yields, so that calling it does nothing: let it return"
    for one in inspect.signature(function).parameters.values():
        if one.kind is inspect.Parameter.VAR_KEYWORD:
            given = [*given, *(name for name in KNOWN if name not in given)]
        elif one.kind in _GIVEN and one.name in KNOWN:
            given.append(one.name)
        elif one.kind is not inspect.Parameter.VAR_POSITIONAL and one.default is inspect.Parameter.empty:
            in_place = " by its place" if one.kind is inspect.Parameter.POSITIONAL_ONLY else ""
            trouble = trouble or f"its argument {one.name} can't be given{in_place}"
    return tuple(given), trouble


def _lost(modules: Sequence[ModuleType], found: Iterable[Handler]) -> Iterator[Problem]:
    """Rules of functions that are not in their modules under any name."""
    there = {id(rule) for one in found for rule in getattr(one.function, "relay_rules", ())}
    names = {module.__name__ for module in modules}
    for rule in handlers.declared:
        if rule.module in names and id(rule) not in there and not _is_named(modules, rule):
            what = f"{rule.module}.{rule.function} says @handles({rule.topic!r}), and nobody can find it"
            yield what, "put @handles above its other decorators, and leave it in the module under its name"


def _is_named(modules: Sequence[ModuleType], rule: handlers.Rule) -> bool:
    """It is there, with a problem that has been told."""
    return any(rule in getattr(value, "relay_rules", ()) for module in modules for _, value in _functions(module))


def _alike(found: Sequence[Handler]) -> Iterator[Problem]:
    for one, other in itertools.combinations(found, 2):
        if one.function is other.function or one.exactness != other.exactness:
            continue
        if (not one.ops or not other.ops or one.ops & other.ops) and _meet(one, other):
            what = f"{one.name} and {other.name} both take {one.shown()}"
            if other.shown() != one.shown():
                what += f" and {other.shown()}, and neither is more exact"
            yield what, "one function an event: let it call the other, or say op= at one of them"


def _meet(one: Handler, other: Handler) -> bool:
    if one.topic and other.topic:
        return overlap(tuple(one.words), tuple(other.words))
    if not one.topic and not other.topic:
        return one.short == other.short
    by_name, said = (one, other) if other.topic else (other, one)
    return said.topic.replace(".", "_") == by_name.short


@functools.lru_cache(REMEMBERED)
def overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Is there a topic that both patterns take?"""
    for first, second in ((one, other), (other, one)):
        if first and first[0] == "#":
            return overlap(first[1:], second) or (bool(second) and overlap(first, second[1:]))
    if not one or not other:
        return not one and not other
    return (one[0] == other[0] or "*" in (one[0], other[0])) and overlap(one[1:], other[1:])
