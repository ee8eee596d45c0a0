"""consumers.toml: many consumers in one file, a section each with an env file's names, over an env file of defaults.

    [mail]
    TARGET = "python"
    PYTHON_HANDLERS = "shop.mail"
    BINDING_KEYS = ["public.orders", "shop.#"]

    [search]
    HTTP_URL = "http://search.lan/orders/_doc/{key[id]}"

Each is a process of its own: receiver.py --consumer mail. QUEUE is the section's name, unless the section has another.
"""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from relay import envfile, files
from relay.envfile import Problem
from relay.errors import ConfigError

FILE = "consumers.toml"
DEFAULTS = "config.env"  # beside it, unless another one is named

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")  # also of a systemd unit


@dataclasses.dataclass(frozen=True)
class Consumer:
    """A section, and what stands below it.

    Args:
        env_file: of the defaults; None = there are none.
    """

    name: str
    file: Path
    env_file: Path | None

    def texts(self, known: Collection[str], problems: list[Problem]) -> dict[str, str]:
        """The section's values of the `known` keys; what is wrong is added to `problems`, without a value."""
        section, found = _sections(self.file)[self.name], {"QUEUE": self.name}
        for key, value in section.items():
            text = _text(value)
            if key not in known:
                near = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.6)
                remedy = f"did you mean {near[0]}?" if near else "remove it; config.example.env lists every key"
                problems.append((f"{key} is no setting of the relay", remedy))
            elif text is None:
                problems.append(
                    (f"{key} is no text", f'write {key} = "..."; a number, true, false, or a list of texts')
                )
            else:
                found[key] = text
        return found


Source = Path | Consumer | None
"""Where settings are read, beside the environment: an env file, or a section of consumers.toml."""


def directory(env_file: Source) -> Path | None:
    """The one that the settings stand in."""
    file = env_file.file if isinstance(env_file, Consumer) else env_file
    return file.absolute().parent if file else None


def texts(env_file: Source, known: Collection[str], problems: list[Problem]) -> list[tuple[Path, dict[str, str]]]:
    """By file what it says; a later one wins. What is wrong is added to `problems`, without a value."""
    if not isinstance(env_file, Consumer):
        return [(env_file, envfile.read(env_file, known, problems))] if env_file else []
    return [*texts(env_file.env_file, known, problems), (env_file.file, env_file.texts(known, problems))]


def merged(env_file: Source, known: Collection[str], problems: list[Problem]) -> dict[str, str]:
    """All that they say. Arguments as of `texts`."""
    found: dict[str, str] = {}
    for _path, own in texts(env_file, known, problems):
        found = overlaid(found, own)
    return found


def overlaid(raw: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What is given wins, also over the other form of a secret."""
    return {key: text for key, text in raw.items() if twin(key) not in given} | dict(given)


def twin(key: str) -> str:
    """DATABASE_URL for DATABASE_URL_FILE, and the other way round."""
    return key.removesuffix("_FILE") if key.endswith("_FILE") else f"{key}_FILE"


def find(name: str, file: Path, env_file: Path | None) -> Consumer | Path:
    """Where a consumer's settings are: its section; or, where the file has none, NAME.env beside it, alone.

    Args:
        env_file: with defaults, as the user has named it; None = DEFAULTS beside the file, if that is there.

    Raises:
        ConfigError: there are none, or both; the file can't be read.
    """
    own = file.parent / f"{name}.env"
    has_own = env_file is None and bool(_NAME.fullmatch(name)) and own.is_file()
    if not file.exists():
        if has_own:
            return own
        raise ConfigError(
            (f"neither {own} nor {file} is there", f"write QUEUE and so on into {own}, or [{name}] into that")
        )
    sections = _sections(file)
    if name in sections and has_own:
        raise ConfigError((f"consumer {name} is both in {file} and in {own}", "keep one of them"))
    if name in sections:
        return _consumer(name, file, env_file)
    if has_own:
        return own
    there = ", ".join(sections) or "none"
    raise ConfigError((f"{file} has no consumer {name}", f"write [{name}] there; it has: {there}"))


def every(file: Path, env_file: Path | None) -> list[Consumer]:
    """All sections. Arguments and errors as of `find`."""
    found = [_consumer(name, file, env_file) for name in _sections(file)]
    if not found:  # of nothing all is well: whoever watches `check --all` would not notice
        raise ConfigError((f"{file} has no consumer", "write one: [NAME], and its settings below"))
    return found


def _consumer(name: str, file: Path, env_file: Path | None) -> Consumer:
    beside = file.parent / DEFAULTS
    return Consumer(name, file, env_file or (beside if beside.exists() else None))


def _sections(file: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        found = tomllib.loads(files.text(file))
    except files.Unreadable as error:
        raise ConfigError((f"{file} {error}", "name it by --consumers FILE, readable for this user")) from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at ([^()]*)\)$", str(error))  # its words may quote a piece of a value
        where = place[1] if place else "its end"
        raise ConfigError((f"{file} can't be read at {where}", 'write [name] and KEY = "value" below it')) from None
    except RecursionError:
        raise ConfigError((f"{file} is nested too deep", 'write [name] and KEY = "value" below it')) from None
    return _checked(file, found)


def _checked(file: Path, found: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    problems: list[Problem] = []
    queues: dict[str, str] = {}
    for name, section in found.items():
        if not isinstance(section, dict):
            problems.append((f"{file}: {name} stands in no section", f"put it below [name], or into {DEFAULTS}"))
            continue
        if not _NAME.fullmatch(name):
            problems.append(
                (f"{file}: [{name}] is no name of a consumer", "write letters, digits, _ . - (at most 100)")
            )
        queue = str(section.get("QUEUE", name))
        if section.get("LANE"):
            queue = f"{queue} and the lane {section['LANE']}"
        if queue in queues:
            problems.append(
                (f"{file}: [{queues[queue]}] and [{name}] have the queue {queue}", "give each its own QUEUE, or LANE")
            )
        queues[queue] = name
    if problems:
        raise ConfigError(*problems)
    return found


def _text(value: object) -> str | None:
    """As it would stand in an env file; None = it can't."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(one, str) and "," not in one for one in value):
        return ",".join(value)
    return None
