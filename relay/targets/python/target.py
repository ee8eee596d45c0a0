"""TARGET=python: each event to a function of the user's own, in a thread; its return is the success."""

import dataclasses
import re
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from relay import handlers, values
from relay.amqp.routing import takes
from relay.config import Receive
from relay.delivery import DONE, NOT_TRIED, Delivery, Event, Outcome, Verdict, always
from relay.envfile import Problem
from relay.errors import ConfigError
from relay.findings import Finding, warning
from relay.log import Log
from relay.setting import setting
from relay.targets.python import modules
from relay.targets.python.calls import Calls
from relay.targets.python.registry import Handler, Registry, collect
from relay.targets.watching import watcher

_log = Log("receiver")
_PLAIN = re.compile(r"[\w.:/-]+")
UNHANDLED = "no function takes it"


def module_names(value: str) -> tuple[str, ...]:
    """Names of modules, separated by commas."""
    found = values.names(value)
    if not all(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) for name in found):
        raise values.Invalid("is no list of modules", "write their names as Python imports them: shop.events,shop.mail")
    return found


def directories(value: str) -> tuple[Path, ...]:
    """Directories, separated by colons."""
    found = tuple(Path(one).resolve() for one in value.split(":") if one)
    for one in found:
        if not one.is_dir():
            raise values.Invalid(
                "names what is no directory", "write directories that this user may enter, with : between"
            )
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Receive):
    """What TARGET=python reads. Units: seconds."""

    python_handlers: tuple[str, ...] = setting(module_names, "")
    handler_path: tuple[Path, ...] = setting(directories, "")
    handler_time_limit: float = setting(values.seconds(0.05, 86_400), "60")
    unhandled: str = setting(values.one_of("refuse", "ignore"), "refuse")
    handler_log: bool = setting(values.on_off, "off")

    @classmethod
    def beside(cls, directory: Path) -> Mapping[str, str]:
        """See config.Common."""
        return {"HANDLER_PATH": str(directory)}

    def contradictions(self) -> list[Problem]:
        """See config.Common."""
        what = "TARGET=python needs PYTHON_HANDLERS"
        missing = [] if self.python_handlers else [(what, "set PYTHON_HANDLERS=shop.events, a module of yours")]
        return super().contradictions() + missing


class PythonTarget:
    """Calls the functions of PYTHON_HANDLERS."""

    batch_size = 1

    def __init__(self, config: Settings) -> None:
        handlers.is_consumer(config.queue)
        self.modules, problems = modules.load(config.python_handlers, config.handler_path)
        found, wrong, self._helpers = collect(self.modules) if not problems else ([], [], [])
        if problems or wrong:
            raise ConfigError(*problems, *wrong)
        self._config = config
        self.registry = Registry(found)
        self._calls = Calls(config.handler_time_limit, max(4, config.workers), by_key=config.order == "key")

    def group(self, _event: Event) -> str:
        """One event a call: the group does not matter."""
        return ""

    def open(self, may_begin: Callable[[], bool] = always) -> "PythonLink":
        """A link; threads are shared."""
        return PythonLink(self._config, self.registry, self._calls, may_begin)

    def describe(self, _event: Event) -> list[str]:
        """See Target."""
        return []

    async def check(self) -> AsyncIterator[Finding]:
        """See Target: which topics go to which function. None is called."""
        for module in self.modules:
            file = Path(module.__file__ or "")
            yield Finding(f"module {module.__name__}", detail=str(file))
            if open_to_all := [str(one) for one in (file, file.parent) if _written_by_others(one)]:
                what = f"every user of this host may write {' and '.join(open_to_all)}"
                yield warning(f"module {module.__name__}", what, "chmod o-w: what they write is run with its secrets")
        for handler in self.registry.handlers:
            yield Finding(handler.shown(), detail=handler.call())
        for text in self._helpers:
            yield Finding("no handler", detail=text)
        for finding in _strangers(self._config, self.registry.handlers):
            yield finding


def _written_by_others(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IWOTH) and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)


def _strangers(config: Settings, found: Sequence[Handler]) -> list[Finding]:
    """Topics that come and nobody takes; functions whose topics do not come. As far as BINDING_KEYS says it."""
    exact = [key for key in config.binding_keys if not {"*", "#"} & set(key.split("."))]
    told = []
    for key in exact:
        if not any(one.has(key, op) for one in found for op in (*one.ops, "")):
            what = "parked" if config.unhandled == "refuse" else "acknowledged and dropped"
            told.append(
                warning(key, f"BINDING_KEYS has it, and {UNHANDLED}: it is {what}", "write def or @handles for it")
            )
    for one in found:
        topics = [one.topic] if one.is_exact and one.topic else []
        if any(not any(takes(key, topic) for key in config.binding_keys) for topic in topics):
            told.append(warning(one.name, f"BINDING_KEYS does not have its topic {one.topic}", f"add {one.topic}"))
    return told


class PythonLink:
    """One worker's."""

    def __init__(self, config: Settings, registry: Registry, calls: Calls, may_begin: Callable[[], bool]) -> None:
        self._config = config
        self._registry = registry
        self._calls = calls
        self._may_begin = may_begin

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        return [await self._deliver(delivery) for delivery in batch]

    async def probe(self) -> Outcome | None:
        """There is no way to ask a function whether what it needs works."""
        return None

    def close(self) -> None:
        """There is nothing to close: a function that runs cannot be ended."""

    async def _deliver(self, delivery: Delivery) -> Outcome:
        event = delivery.event
        handler = self._registry.find(event)
        if handler is None:
            return self._unhandled(event)
        watch = watcher.get()
        if watch is not None and not watch.calls(handler.call()):
            return NOT_TRIED
        began = time.monotonic()
        outcome = await self._calls.make(handler, delivery, self._may_begin)
        if outcome is DONE and self._config.handler_log:
            _log_event("PROCESSED", event, ms=round(1000 * (time.monotonic() - began)))
        return outcome

    def _unhandled(self, event: Event) -> Outcome:
        if self._config.unhandled == "refuse":
            return Outcome(
                Verdict.MESSAGE, f"{UNHANDLED}: receiver.py check lists what they take", final=True, shows=False
            )
        if self._config.handler_log:
            _log_event("IGNORED", event)
        return Outcome(Verdict.DONE, shows=False)


def _log_event(word: str, event: Event, **more: object) -> None:
    """A topic or an op of somebody else's must not pose as a field."""
    words = [one if _PLAIN.fullmatch(one) else repr(one) for one in (event.topic, event.op) if one]
    _log.info(" ".join([word, *words]), key=event.key or None, event=event.id or None, **more)
