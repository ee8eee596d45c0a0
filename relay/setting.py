"""A setting: how it is declared, found and read, and what is wrong with it.

It is a field of a dataclass; its key in the environment is the field's name in capitals. Every problem is found before
anything starts and all are reported together: key, value (secrets masked), what to write instead.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from relay import consumers, files, urls, values
from relay.consumers import Source
from relay.envfile import Problem
from relay.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Its fields are made by `setting`."""

    def contradictions(self) -> list[Problem]:
        """Values that are fine each, but not together."""
        return []


Kind = TypeVar("Kind", bound=Settings)


def setting(
    parse: Callable[[str], Any],
    default: str | None = None,
    *,
    secret: bool = False,
    private: bool = False,
    reread: bool = False,
) -> Any:
    """A field read from the environment.

    Args:
        parse: one of relay/values.py; raises `values.Invalid`.
        default: text, parsed like any other value; None = it must be set.
        secret: never shown; KEY_FILE may name a file that holds it.
        private: names a file that nobody else should be able to read.
        reread: a secret whose file may change while the daemon runs; it is a files.Secret.
    """
    shown = not secret and parse is not urls.http_url  # in its query may stand a token
    metadata = {"parse": parse, "default": default, "secret": secret, "private": private, "reread": reread}
    return dataclasses.field(metadata=metadata, repr=shown)


def keys(*kinds: type[Settings]) -> list[str]:
    """Every key that `kinds` read from an env file, `..._FILE` of the secrets included."""
    found = dict.fromkeys(field.name.upper() for kind in kinds for field in dataclasses.fields(kind))
    secret = [f.name.upper() for kind in kinds for f in dataclasses.fields(kind) if f.metadata["secret"]]
    return [*found, *(f"{key}_FILE" for key in dict.fromkeys(secret))]


@dataclasses.dataclass(frozen=True)
class Given:
    """What an env file and the environment say, as text by key; and what is wrong with the file itself.

    Args:
        where: begins each line of what is wrong.
    """

    texts: Mapping[str, str] = dataclasses.field(repr=False)
    problems: tuple[Problem, ...]
    where: str = ""


def parse(kind: type[Kind], given: Given) -> Kind:
    """Return the settings of `kind`.

    Raises:
        ConfigError: everything that is wrong, at once.
    """
    problems, parsed = list(given.problems), dict[str, Any]()
    for field in dataclasses.fields(kind):
        try:
            parsed[field.name] = _value(field, given.texts)
        except values.Invalid as error:
            problems.append((error.what, error.remedy))
    if not problems:
        settings = kind(**parsed)
        problems = settings.contradictions()
    if problems:
        told = [(given.where + what, remedy) for what, remedy in problems]
        raise ConfigError(*told, log_file=parsed.get("log_file", ""))
    return settings


def env_file(given: Path | None, script: str) -> Path | None:
    """Return which file to read: the one that was asked for, else config.env beside the script, if it is there."""
    beside = Path(script).resolve().parent / "config.env"
    return given or (beside if os.path.lexists(beside) else None)


def read_by_others(kind: type[Settings], env_file: Source, environ: Mapping[str, str] | None = None) -> list[Path]:
    """The files with secrets, of those that `load` reads, that every user of this host may read."""
    known, fields = keys(kind), dataclasses.fields(kind)
    raw = with_environment(consumers.merged(env_file, known, []), environ, known)
    secret = [field.name.upper() for field in fields if field.metadata["secret"]]
    named = [f"{key}_FILE" for key in secret] + [field.name.upper() for field in fields if field.metadata["private"]]
    found = [path for path, own in consumers.texts(env_file, known, []) if any(own.get(key) for key in secret)]
    found += [Path(raw[key]) for key in named if raw.get(key)]
    return [path for path in found if files.read_by_others(path)]


def with_environment(
    raw: Mapping[str, str], environ: Mapping[str, str] | None, known: Collection[str]
) -> dict[str, str]:
    """The `known` keys, of a file and of the environment, which wins."""
    given = {key: text for key, text in (os.environ if environ is None else environ).items() if key in known}
    return consumers.overlaid(raw, given)


def _value(field: "dataclasses.Field[Any]", raw: Mapping[str, str]) -> Any:
    """One setting: from its key, or for a secret from the file that `KEY_FILE` names, or its default."""
    key, secret, default = field.name.upper(), field.metadata["secret"], field.metadata["default"]
    text, path = raw.get(key, ""), None
    if secret and raw.get(f"{key}_FILE"):
        if text:
            raise values.Invalid(f"both {key} and {key}_FILE are set", "keep one of them")
        path = Path(raw[f"{key}_FILE"])
        text = _secret_file(f"{key}_FILE", path)
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):  # the latter: bytes of the environment
        raise values.Invalid(f"{key} is no UTF-8 text, or holds a zero byte", "write text")
    if not text and default is None:
        raise values.Invalid(f"{key} is not set", f"set {key}; config.example.env shows how")
    try:
        parsed = field.metadata["parse"](text or default)
    except values.Invalid as error:
        shown = values.masked(text) if secret or "@" in text else text  # a URL with a password, where none belongs
        raise values.Invalid(f"{key}={shown}: {error.what}", error.remedy) from None
    return files.Secret(parsed, path, field.metadata["parse"]) if field.metadata["reread"] else parsed


def _secret_file(key: str, path: Path) -> str:
    try:
        return files.text(path).rstrip("\r\n")
    except files.Unreadable as error:
        raise values.Invalid(f"{key}={path}: {error}", files.WANTED) from None
