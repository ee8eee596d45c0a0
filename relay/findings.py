"""What the two `check` commands find, and how it is told: to a person, as JSON, or to a monitoring system."""

import asyncio
import dataclasses
import enum
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path

from relay.cli import plural, print_line
from relay.daemon import EX_CONFIG, EX_OK, EX_TEMPFAIL
from relay.errors import ConfigError, RelayError
from relay.log import Log


class Level(enum.Enum):
    """How bad it is; with the exit status of a monitoring plugin (Monitoring Plugins Guidelines, 2.3)."""

    OK = ("ok", 0)
    WARNING = ("WARN", 1)  # nothing stands still for it
    FAILED = ("FAILED", 2)

    @classmethod
    def of(cls, *, ok: bool) -> "Level":
        """Fine, or not."""
        return cls.OK if ok else cls.FAILED

    @property
    def word(self) -> str:
        """As `check` prints it."""
        return str(self.value[0])

    @property
    def nagios(self) -> int:
        """The exit status of a monitoring plugin."""
        return int(self.value[1])


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """A number that `check` has found, for whoever draws it (Monitoring Plugins Guidelines, 2.6).

    Args:
        label: its name: letters, digits and underscores.
        value: in `unit`.
        unit: s, B, or nothing for a count.
        warning, failed: above it the level is that; None = never.
    """

    label: str
    value: float
    unit: str = ""
    warning: float | None = None
    failed: float | None = None

    @property
    def level(self) -> Level:
        """What the limits say of the value."""
        if self.failed is not None and self.value > self.failed:
            return Level.FAILED
        return Level.WARNING if self.warning is not None and self.value > self.warning else Level.OK

    def __str__(self) -> str:
        limits = ("" if limit is None else f"{limit:g}" for limit in (self.warning, self.failed))
        return f"{self.label}={self.value:.10g}{self.unit};{';'.join(limits)};0"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`.

    Args:
        name: what was looked at.
        level: whether it is in order.
        detail: what was found.
        remedy: what to do about it.
        outage: it may be over by itself: a server does not answer.
        measure: the number that was found, if it is one.
    """

    name: str
    level: Level = Level.OK
    detail: str = ""
    remedy: str = ""
    outage: bool = False
    measure: Measure | None = None

    @property
    def ok(self) -> bool:
        """Does nothing stand still for it?"""
        return self.level is not Level.FAILED


def warning(name: str, detail: str, remedy: str = "") -> Finding:
    """Something that a person should know, and that nothing stands still for."""
    return Finding(name, Level.WARNING, detail, remedy)


def failed(name: str, detail: str, remedy: str = "") -> Finding:
    """Something that events wait for, or get lost by."""
    return Finding(name, Level.FAILED, detail, remedy)


def of_error(name: str, error: RelayError) -> Finding:
    """What was looked at can't be: it may be over by itself, unless it is the settings' fault."""
    outage = not isinstance(error, ConfigError)
    return Finding(name, Level.FAILED, error.what, error.remedy, outage=outage)


def measured(name: str, measure: Measure, detail: str, remedy: str = "") -> Finding:
    """A number; its limits say how bad it is."""
    return Finding(name, measure.level, detail, remedy if measure.level is not Level.OK else "", measure=measure)


def report(found: Iterable[Finding], *, style: str) -> int:
    """Print what `check` finds. Return the exit status.

    Args:
        found: printed as they come, where the style allows it.
        style: `text`, `json` or `nagios`.

    Returns:
        0 (warnings too), 78 (something failed), 75 (something failed that may be over by itself, and nothing else);
        with `nagios` 0, 1 (warnings), 2 (something failed), 3 (it can't be told).
    """
    if style == "nagios":
        return _report_nagios(found)
    seen = []
    for one in found:
        seen.append(one)
        if style == "text":
            line = f"{one.level.word:6}  {one.name}" + (f": {one.detail}" if one.detail else "")
            print_line(line + (f" -> {one.remedy}" if one.remedy else ""))
    if style == "json":
        sys.stdout.write(json.dumps([_as_json(one) for one in seen], indent=2) + "\n")
    bad = [one for one in seen if not one.ok]
    if not bad:
        return EX_OK
    return EX_TEMPFAIL if all(one.outage for one in bad) else EX_CONFIG


def _as_json(one: Finding) -> dict[str, object]:
    shown: dict[str, object] = {
        "name": one.name, "level": one.level.name.lower(), "ok": one.ok, "detail": one.detail, "remedy": one.remedy,
    }  # fmt: skip
    return shown | ({"measure": dataclasses.asdict(one.measure)} if one.measure else {})


def _report_nagios(found: Iterable[Finding]) -> int:
    """One line with the worst, the numbers behind a bar, and the rest below it."""
    try:
        seen = list(found)
    except RelayError as error:
        said = str(error)
        if isinstance(error, ConfigError) and len(error.problems) > 1:
            said = "; ".join(what for what, _remedy in error.problems)
        print_line(f"RELAY UNKNOWN - {_plain(said)}")
        return 3
    worst = max((one.level for one in seen), key=lambda level: level.nagios, default=Level.OK)
    word = {Level.OK: "OK", Level.WARNING: "WARNING", Level.FAILED: "CRITICAL"}[worst]
    bad = [one for one in seen if one.level is worst and worst is not Level.OK]
    said = "; ".join(f"{one.name}: {one.detail}" for one in bad) or f"{plural(len(seen), 'finding')}, all in order"
    numbers = " ".join(str(one.measure) for one in seen if one.measure)
    print_line(f"RELAY {word} - {_plain(said)}" + (f" | {numbers}" if numbers else ""))
    for one in sorted(seen, key=lambda one: -one.level.nagios):
        if one.level is not Level.OK:
            print_line(
                _plain(f"{one.level.name} {one.name}: {one.detail}" + (f" -> {one.remedy}" if one.remedy else ""))
            )
    return worst.nagios


def _plain(text: str) -> str:
    """A bar begins the numbers."""
    return text.replace("|", "/")


def each(found: AsyncIterator[Finding]) -> Iterator[Finding]:
    """The same findings, as they come, for who has no event loop."""

    async def following() -> Finding | None:
        return await anext(found, None)

    with asyncio.Runner() as runner:
        while (one := runner.run(following())) is not None:
            yield one


def of_each(each: Mapping[str, Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    """The findings of several, each with its name; what can't be looked at in one keeps nobody from the others."""
    for name, look in each.items():
        try:
            for one in look():
                measure = one.measure and dataclasses.replace(one.measure, label=f"{_label(name)}_{one.measure.label}")
                yield dataclasses.replace(one, name=f"{name}: {one.name}", measure=measure)
        except ConfigError as error:
            for what, remedy in error.problems:
                yield failed(f"{name}: settings", what.removeprefix(f"[{name}] "), remedy)
        except RelayError as error:
            yield of_error(name, error)


def _label(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)


_EXPOSED = "every user of this host may read this file, and it holds secrets"


def warn_of_exposed(paths: Iterable[Path], log: Log) -> None:
    """Once, at the start."""
    for path in paths:
        log.warning(_EXPOSED, file=path, remedy=_close(path))


def exposed(paths: Iterable[Path]) -> Iterator[Finding]:
    """The same for `check`: no failure, as nothing stands still for it."""
    for path in paths:
        yield warning(str(path), _EXPOSED, _close(path))


def _close(path: Path) -> str:
    return f"chmod o= {shlex.quote(str(path))}"
