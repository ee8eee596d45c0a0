"""Manual pages, made from the parsers of the command lines: roff, for man."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

EXITS = [
    ("0", "done; of a daemon: stopped as asked"),
    ("1", "not done: what was named is not there, or was refused again"),
    ("2", "the command line will not do"),
    ("75", "a server is away; try again later"),
    ("78", "something in the configuration or the servers must be mended first; each line names it and the remedy"),
    ("130", "interrupted"),
]


def page(parser: argparse.ArgumentParser, name: str, files: list[tuple[str, str]], see: list[str], version: str) -> str:
    """The page of a command line.

    Args:
        parser: its `prog` is what stands in front of the options.
        name: of the program, and of the page.
        files: path and what is in it.
        see: other pages and files.
        version: of the release.
    """
    lines = [f'.TH {name.upper()} 1 "" "relay {version}" "relay"', ".SH NAME"]
    lines += [f"{name} \\- {_text(_sentence(parser)[0].lower() + _sentence(parser)[1:])}"]
    lines += [".SH SYNOPSIS", _usage(parser), ".SH DESCRIPTION", _text(f"{parser.description} {parser.epilog or ''}")]
    lines += [".SH OPTIONS", *_options(parser)]
    lines += [".SH COMMANDS"]
    for one in _commands(parser):
        lines += [".SS " + _text(one.prog.removeprefix(parser.prog).strip())]
        lines += [_usage(one), ".PP", _text(one.description or ""), *_options(one, of_all=parser)]
    lines += [".SH EXIT STATUS", *_list(EXITS), ".SH FILES", *_list(files), ".SH SEE ALSO", _text(", ".join(see))]
    return "\n".join(lines) + "\n"


def _sentence(parser: argparse.ArgumentParser) -> str:
    return (parser.description or "").rstrip(".")


def _usage(parser: argparse.ArgumentParser) -> str:
    return ".B " + _text(" ".join(parser.format_usage().removeprefix("usage: ").split()))


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _options(parser: argparse.ArgumentParser, of_all: argparse.ArgumentParser | None = None) -> list[str]:
    """Each option and argument, but for those that a command shares with the whole."""
    found = []
    shared = {word for action in of_all._actions for word in action.option_strings} if of_all else set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or shared & set(action.option_strings):
            continue
        value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
        value = value if isinstance(value, str) else " ".join(value)
        words = ", ".join(action.option_strings)
        found.append((f"{words} {value}".strip(), action.help or ""))
    return _list(found)


def _list(pairs: list[tuple[str, str]]) -> list[str]:
    return [line for term, text in pairs for line in (".TP", ".B " + _text(term), _text(text))]


def _text(text: str) -> str:
    """Roff of a text on one line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
