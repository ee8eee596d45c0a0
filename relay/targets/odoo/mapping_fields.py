"""Reads the fields of a table in the mapping file."""

import collections
import dataclasses
import datetime
import re
from typing import Any

from relay.targets.odoo.expression import Expression, InvalidExpression, parse
from relay.targets.odoo.mapping import LANGUAGE, MODEL, FieldMapping
from relay.targets.odoo.mapping_problems import Problems

FIELD = ("from", "values", "default", "omit", "by", "model", "many", "format", "decimal", "empty_link")

EMPTY = "leave empty"

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/(id|\.id))?")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def expression(
    problems: Problems, table: str, key: str, value: Any, values: dict[str, str] | None = None
) -> Expression | None:
    """None, if it is none: the problem is told."""
    if not isinstance(value, str):
        problems.add(table, key, "is not set" if value is None else "is no text", f'write {key} = "{{column}}"')
        return None
    try:
        return parse(value, values)
    except InvalidExpression as error:
        problems.add(table, key, str(error), 'write text with columns in braces: "customers_{id}"')
        return None


class FieldReader:
    """Reads the fields of one table.

    Args:
        table: its name.
        problems: gets what is wrong.
        language: of its context; empty = it has none.
    """

    def __init__(self, table: str, problems: Problems, language: str = "") -> None:
        self._table = table
        self._problems = problems
        self._language = language

    def read(self, content: dict[str, Any], section: str) -> tuple[FieldMapping, ...]:
        """Those of a section, `fields` or `create`."""
        found = content.get(section, {})
        if not isinstance(found, dict):
            self._wrong(section, "is no table of fields", f'write [table."{self._table}".{section}]')
            return ()
        made: list[FieldMapping | None] = []
        for path, value in found.items():
            if isinstance(value, dict) and any(map(_is_language, value)):
                made += self._languages(path, value, section)
            else:
                made.append(self._field(path, value))
        known = [one for one in made if one is not None]
        counts = collections.Counter((one.name, one.lang) for one in known)
        for name in [name for (name, _lang), count in counts.items() if count > 1]:
            self._wrong(name, "is there twice, once with /id and once without", "keep one of them")
        return tuple(known)

    def _languages(self, path: str, texts: dict[str, Any], section: str) -> list[FieldMapping | None]:
        """A text in several languages: first that of the context, then the others."""
        for one in [one for one in texts if not _is_language(one)]:
            self._wrong(
                path, f"{one} is no language", 'write { en_US = "{name}", de_DE = "{name_de}" }, and no settings'
            )
        if section == "create":
            self._wrong(path, "has several languages, which are written after the creation", "write it under fields")
        if self._language not in texts:
            wanted = f'add it, or write context = {{ lang = "{next(iter(texts))}" }}'
            self._wrong(path, f"has no text for {self._language or 'the lang'} of the context", wanted)
            return []
        found: list[FieldMapping | None] = []
        for language in (self._language, *(one for one in texts if one != self._language)):
            made = self._field(path, texts[language])
            if made is not None and (made.is_link or made.is_looked_up or made.omit or made.many):
                self._wrong(path, f"is to be more than text for {language}", 'write de_DE = "{name_de}"')
            found.append(made and dataclasses.replace(made, lang="" if language == self._language else language))
        return found

    def _wrong(self, path: str, what: str, remedy: str) -> None:
        self._problems.add(self._table, path, what, remedy)

    def _field(self, path: str, value: Any) -> FieldMapping | None:
        if not _FIELD.fullmatch(path) or path == "id":
            self._wrong(path, "names no field", 'write name, or "partner_id/id" to link by external id')
            return None
        settings = value if isinstance(value, dict) else {"from": value}
        self._problems.check_keys(self._table, settings, FIELD, within=path)
        before = len(self._problems.found)
        values, default = settings.get("values", {}), settings.get("default")
        usable = isinstance(values, dict) and all(is_plain(one) for one in values.values())
        if not usable or not (default is None or is_plain(default)):
            self._wrong(path, "has values that are no text, number or switch", 'write values = { new = "draft" }')
            return None
        words = {key: str(constant(one)) for key, one in values.items()}
        by = self._by(path, settings, words)
        made = by[0][1] if by else expression(self._problems, self._table, path, constant(settings.get("from")), words)
        self._check_words(path, settings)
        if made is None or len(self._problems.found) > before:
            return None
        return FieldMapping(
            path=f"{path}/.id" if by else path,
            expression=made,
            values={} if made.is_mapped else words,
            default=None if default is None else str(constant(default)),
            line=self._problems.line(self._table, path),
            omit=settings.get("omit") == "null",
            by=by,
            model=str(settings.get("model", "")),
            many=str(settings.get("many", "")),
            format=str(settings.get("format", "")),
            decimal=str(settings.get("decimal", "")),
            empty_link=settings.get("empty_link") == EMPTY,
        )

    def _by(self, path: str, settings: dict[str, Any], words: dict[str, str]) -> tuple[tuple[str, Expression], ...]:
        """The fields of the linked record, each with what it is to be."""
        by = settings.get("by")
        if by is None:
            return ()
        wanted = f'write {path} = {{ from = "{{currency}}", by = "name" }}; mapping.example.toml has more'
        pairs = {by: constant(settings.get("from"))} if isinstance(by, str) else by
        if not isinstance(pairs, dict) or not pairs or not all(_PATH.fullmatch(name) for name in pairs):
            self._wrong(path, "is found by no fields", wanted)
            return ()
        if "/" in path or "model" in settings:
            self._wrong(path, "is a link both by a value and by an external id", wanted)
        if "." in next(iter(pairs)):
            self._wrong(path, "is found first by a field of another model", "begin with a field of the record itself")
        if isinstance(by, dict) and settings.keys() & {"from", "values", "default"}:
            self._wrong(path, "has from, values or default beside several fields", "write them within by")
        made = [(name, expression(self._problems, self._table, path, one, words)) for name, one in pairs.items()]
        return tuple((name, one) for name, one in made if one is not None)

    def _check_words(self, path: str, settings: dict[str, Any]) -> None:
        """The settings that are words."""
        if settings.get("omit", "null") != "null":
            self._wrong(path, "omits nothing that can be told", 'write omit = "null"')
        elif "omit" in settings and "default" in settings:
            self._wrong(path, "has both omit and default", "keep one of them")
        if settings.get("empty_link", EMPTY) != EMPTY or ("empty_link" in settings and not path.endswith("/id")):
            wanted = f'write empty_link = "{EMPTY}", in a link by external id'
            self._wrong(path, "has an empty_link that says nothing", wanted)
        model, many = settings.get("model", "res.partner"), settings.get("many", "add")
        if not isinstance(model, str) or not MODEL.fullmatch(model) or ("model" in settings and "/" in path):
            wanted = f'write {path.partition("/")[0]} = {{ from = "customers_{{id}}", model = "res.partner" }}'
            self._wrong(path, "names no model", wanted)
        if many not in ("add", "merge"):
            self._wrong(path, "says neither add nor merge", 'write many = "add" or "merge"')
        elif settings.get("many") == "merge" and not path.endswith("/id"):
            self._wrong(path, "merges what is no link by external id", f'write "{path}/id", or many = "add"')
        if settings.get("decimal", ".") not in (".", ","):
            self._wrong(path, "has another decimal sign than . or ,", 'write decimal = ","')
        if "format" in settings and not _is_format(settings["format"]):
            self._wrong(path, "has a format that dates can't be read and written by", 'write format = "%d.%m.%Y"')


def constant(value: Any) -> Any:
    """TOML's numbers and switches as text; text as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def is_plain(value: Any) -> bool:
    """Is it text, a number or a switch?"""
    return isinstance(value, str | bool | int | float)


def _is_language(name: str) -> bool:
    """Is it a language's code, and with more than letters? `by` and `lang` are no languages here."""
    return LANGUAGE.fullmatch(name) is not None and not name.isalpha()


def _is_format(value: Any) -> bool:
    day = datetime.date(2031, 12, 30)
    try:
        return isinstance(value, str) and datetime.datetime.strptime(f"{day:{value}}", value).date() == day  # noqa: DTZ007
    except ValueError:
        return False
