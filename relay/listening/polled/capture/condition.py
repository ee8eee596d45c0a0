"""The condition of a watch: SQL with plain names of columns, to be asked of the row before and of the row after."""

import re
from collections.abc import Callable, Sequence

from relay.errors import RelayError

_TOKEN = re.compile(
    r"""
    (?P<text>'(?:[^'\\]|\\.|'')*')
  | (?P<back>`(?:[^`]|``)*`)
  | (?P<double>"(?:[^"]|"")*")
  | (?P<comment>--|/\*|[\#;@?])
  | (?P<word>[^\W\d][\w$]*)
  | (?P<other>\d[\w.]*|\s+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LITERALS = {"date", "time", "timestamp"}  # date '2024-01-01'
_FORBIDDEN = {"select", "into", "new", "old", "with", "exists"}
_EXAMPLE = "write a condition on the row alone, for example --when \"total > 100 and state <> 'draft'\""


def qualify(
    condition: str, columns: Sequence[str], column: Callable[[str], str], *, text_in_double_quotes: bool
) -> str:
    """Return the condition with each column's name replaced.

    Args:
        condition: as it was given.
        columns: the table's.
        column: gives the SQL of a column, for example new.`total`.
        text_in_double_quotes: what stands in double quotes is text, not a name.

    Raises:
        RelayError: it is no condition on the row alone.
    """
    names = {name.lower(): name for name in columns}
    tokens = list(_TOKEN.finditer(condition))
    said, depth = [], 0
    for at, token in enumerate(tokens):
        kind, word = token.lastgroup, token[0]
        before = next((t[0] for t in reversed(tokens[:at]) if not t[0].isspace()), "")
        after = next((t for t in tokens[at + 1 :] if not t[0].isspace()), None)
        if kind == "comment" or (kind == "word" and word.lower() in _FORBIDDEN):
            raise RelayError(f"--when can't have {word}", _EXAMPLE)
        if kind in {"word", "back", "double"} and (before == "." or (after and after[0] == ".")):
            raise RelayError(
                f"--when names {word} with a dot", "columns stand alone: no table, no database before them"
            )
        depth += (word == "(") - (word == ")")
        if depth < 0 or (depth and token is tokens[-1]):
            raise RelayError("--when has a bracket too many", _EXAMPLE)
        said.append(_replaced(kind or "", word, after, names, column, text_in_double_quotes))
    return "".join(said).strip()


def _replaced(
    kind: str,
    word: str,
    after: "re.Match[str] | None",
    names: dict[str, str],
    column: Callable[[str], str],
    text_in_double_quotes: bool,
) -> str:
    if kind == "back" or (kind == "double" and not text_in_double_quotes):
        name = word[1:-1].replace(word[0] * 2, word[0])
        if name.lower() not in names:
            raise RelayError(f"--when names {name}, which is no column of the table", _EXAMPLE)
        return column(names[name.lower()])
    if kind == "word" and word.lower() in names:
        called = after is not None and after[0] == "("
        literal = word.lower() in _LITERALS and after is not None and after.lastgroup == "text"
        if not called and not literal:
            return column(names[word.lower()])
    return word
