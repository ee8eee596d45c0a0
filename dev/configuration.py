"""python -m dev.configuration: writes docs/configuration.md, from the settings' own definitions and config.example.env.

Names, values and defaults are those of the code; order, groups and meanings those of the comments in the example.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay import config, files, targets, values

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "config.example.env"

_KEY = re.compile(r"#?([A-Z][A-Z0-9_]*)=")
_NO_VALUE = "\x01 !"  # nothing takes it, but what takes any text
_WIDTH = 118
_INTRODUCTION = """\
# Settings

Written by `python -m dev.configuration` from the code and from [config.example.env](../config.example.env). A secret
can come from a file: for `KEY` set `KEY_FILE` to its path. What is wrong is told at the start of a daemon or a
command, all of it at once, each with what to write instead; the exit status is 78."""


@dataclasses.dataclass
class Block:
    """A piece of the example: what it says, and the settings below that.

    Args:
        heading: of the section that begins here, or nothing.
        text: the comment, in one line.
        keys: the settings; True = must be set.
    """

    heading: str = ""
    text: str = ""
    keys: dict[str, bool] = dataclasses.field(default_factory=dict)


def blocks() -> list[Block]:
    """The example, taken apart."""
    found = [Block()]
    for line in EXAMPLE.read_text().splitlines():
        if match := _KEY.match(line):
            found[-1].keys[match[1]] = not line.startswith("#")
        elif match := re.match(r"# -{20,} (.*)", line):
            found.append(Block(heading=match[1]))
        else:
            if found[-1].keys or not line:
                found.append(Block())
            found[-1].text = f"{found[-1].text} {line.removeprefix('#').strip()}".strip()
    return [one for one in found if one.text or one.keys or one.heading]


def fields() -> dict[str, tuple[dataclasses.Field[Any], str]]:
    """Each setting's field, and who reads it."""
    kinds: list[tuple[str, type[config.Common]]] = [("listen.py", config.Listen), ("receiver.py", config.Receive)]
    kinds += [(name, importlib.import_module(entry.module).Settings) for name, entry in targets.TARGETS.items()]
    readers: dict[str, list[str]] = {}
    known: dict[str, dataclasses.Field[Any]] = {}
    for name, kind in kinds:
        for field in dataclasses.fields(kind):
            known.setdefault(field.name.upper(), field)
            readers.setdefault(field.name.upper(), []).append(name)
    return {key: (field, _reader(readers[key])) for key, field in known.items()}


def _reader(names: list[str]) -> str:
    if "listen.py" in names:
        return "both" if "receiver.py" in names else "listen.py"
    if "receiver.py" in names:
        return "receiver.py"
    return "all targets" if len(names) == len(targets.TARGETS) else ", ".join(names)


def value_of(field: dataclasses.Field[Any]) -> str:
    """What can be written, in the words of the error for what can't; where there is none, of the docstring."""
    if field.name == "target":  # whoever reads the others' settings takes any
        return f"one of: {', '.join(targets.TARGETS)}"
    parse = field.metadata["parse"]
    try:
        parse(_NO_VALUE)
    except values.Invalid as error:
        if error.remedy == files.WANTED:
            return "a path"
        if error.remedy.startswith("write "):
            return error.remedy.removeprefix("write ")
    said = parse.__doc__.partition("\n")[0].removesuffix(".")
    return f"{said[0].lower()}{said[1:]}"


def _cell(text: str) -> str:
    return re.sub(r"([|*<])", r"\\\1", text)


def _rows(block: Block) -> Iterator[str]:
    known, meaning = fields(), block.text
    for key, required in block.keys.items():
        if key.removesuffix("_FILE") in block.keys and key.endswith("_FILE"):
            continue  # the other form of a secret
        field, reader = known[key]
        default = field.metadata["default"] or ""
        shown = "must be set" if required else f"`{default}`" if default else ""
        secret = " (secret)" if field.metadata["secret"] else ""
        yield f"| `{key}`{secret} | {reader} | {_cell(value_of(field))} | {_cell(shown)} | {_cell(meaning)} |"
        meaning = "as above"


def page() -> str:
    """docs/configuration.md."""
    lines = [_INTRODUCTION]
    for one in blocks():
        if one.heading:
            heading = one.heading if one.heading.endswith(".py") else one.heading.capitalize()
            lines += [
                "",
                f"## {heading}",
                "",
                "| setting | read by | value | default | meaning |",
                "|---|---|---|---|---|",
            ]
        lines += _rows(one)
        if not one.keys and one.text:
            lines += ["", *textwrap.wrap(one.text, _WIDTH, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
