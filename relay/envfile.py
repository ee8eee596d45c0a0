"""An env file: lines KEY=value, read by python-dotenv, as far as that reads what stands there.

It takes what follows ` #` for a comment, and leaves out a line that it does not understand: of a password, both would
be found out by the server's refusal only. Here both are errors.
"""

import difflib
import io
import re
from collections.abc import Collection
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from relay import files

QUOTE = r"""write '...' around it, and inside \' for ' and \\ for \ """.strip()

Problem = tuple[str, str]


def read(path: Path, known: Collection[str], problems: list[Problem]) -> dict[str, str]:
    """The values of the `known` keys; what is wrong is added to `problems`, without a value, or what may be one."""
    try:
        content = files.text(path)
    except files.Unreadable as error:
        remedy = "copy config.example.env there, readable for this user, or give --env-file PATH"
        problems.append((f"env file {path} {error}", remedy))
        return {}
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(content, newline=None)):
        problem = _problem(binding, path, known)
        if problem:
            problems.append(problem)
        if binding.key is not None and binding.key in known and binding.value is not None:
            found[binding.key] = "" if _is_comment(_written(binding)) else binding.value
    return found


def _problem(binding: Binding, path: Path, known: Collection[str]) -> Problem | None:
    key, value, written = binding.key, binding.value, binding.original.string
    line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
    if binding.error:
        return f"line {line} of {path} can't be read", f"write KEY=value; a value with a quote in it: {QUOTE}"
    if key is None:
        return None
    if key not in known:
        return _unknown(key, value, path, line, known)
    if value is None:
        return f"{key} in {path} has no value", f"write {key}=value"
    return _cut(key, value, _written(binding), path, known)


def _written(binding: Binding) -> str:
    """All behind the equals sign."""
    return binding.original.string.partition("=")[2]


def _is_comment(written: str) -> bool:
    """A comment in place of a value, which Debian 12's python-dotenv takes for the value."""
    return written[:1].isspace() and written.lstrip().startswith("#")


def _unknown(key: str, value: str | None, path: Path, line: int, known: Collection[str]) -> Problem:
    near = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.6)
    if near:
        return f"{key} in {path} is no setting of the relay", f"did you mean {near[0]}?"
    if value is None or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):  # the next line of a secret, perhaps
        return f"line {line} of {path} is no setting of the relay", "write KEY=value, the whole value on one line"
    return f"{key} in {path} is no setting of the relay", "remove it; config.example.env lists every key"


def _cut(key: str, value: str, written: str, path: Path, known: Collection[str]) -> Problem | None:
    """Is the value another one than whoever wrote it sees? `written` is all behind the equals sign."""
    is_comment, written = _is_comment(written), written.strip()
    if written[:1] not in ("'", '"'):
        if written == value and not is_comment:
            return None
        return f"{key} in {path}: what follows ` #` would be left out as a comment", f"if it is the value's: {QUOTE}"
    inside = [line.lstrip("# ").partition("=")[0] for line in value.splitlines()[1:]]
    hidden = next((one for one in inside if one in known), None)
    return (f"{key} in {path}: its quotes hold {hidden}, too", "end the value with its quote") if hidden else None
