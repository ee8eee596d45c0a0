"""Parts of the mapping file that stand in several places: conditions, contexts, words, and what is done by `delete`."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from relay.targets.odoo.mapping import Removal
from relay.targets.odoo.mapping_problems import Problems

RESERVED = ("mode", "noupdate", "tz", "module")  # of Odoo's context: ours
DONE_BY = ("unlink", "archive", "ignore", "method")
RULE = ("when", "do", "method", "set", "context")
METHOD = re.compile(r"[a-z][A-Za-z0-9_]*")

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def context(problems: Problems, table: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Odoo's context, of a table or of something in it."""
    found = content.get("context", {})
    if not isinstance(found, dict):
        problems.add(table, "context", "is no table", 'write context = { lang = "en_US" }')
        return {}
    for key in [key for key in found if key in RESERVED]:
        problems.add(table, key, "in the context is set by the relay", "remove it")
    return found


def condition(problems: Problems, table: str, content: Mapping[str, Any], key: str, within: str = "") -> dict[str, Any]:
    """A condition on a row, or, within a rule, on a record."""
    found = content.get(key, {})
    if not isinstance(found, dict) or not all(_is_condition(one) for one in found.values()):
        wanted = f'write {key} = {{ kind = "customer", country = ["US", "CA"], deleted = {{ null = true }} }}'
        problems.add(table, within or key, f"{key} is no condition" if within else "is no condition", wanted)
        return {}
    return found


def removals(problems: Problems, table: str, content: Mapping[str, Any]) -> tuple[Removal, ...]:
    """What `delete` says: a word, a rule, or rules in order."""
    found = content.get("delete", "archive")
    if isinstance(found, str) and METHOD.fullmatch(found):
        return (Removal({}, found, {}, {}),)
    rules = found if isinstance(found, list) else [found]
    if not rules or not all(isinstance(one, dict) for one in rules):
        wanted = 'write delete = "archive", "unlink", "ignore", the name of a method, or rules: mapping.example.toml'
        problems.add(table, "delete", "says nothing that can be done", wanted)
        return ()
    made = tuple(_removal(problems, table, one) for one in rules)
    for at, one in enumerate(made[:-1], 2):
        if not one.when:
            problems.add(
                table, "delete", f"rule {at} is never reached", f"give rule {at - 1} a when, or remove rule {at}"
            )
    return made


def _removal(problems: Problems, table: str, rule: Mapping[str, Any]) -> Removal:
    problems.check_keys(table, rule, RULE, within="delete")
    when = condition(problems, table, rule, "when", within="delete")
    values, do = rule.get("set", {}), rule.get("do")
    if not isinstance(values, dict) or not all(_FIELD.fullmatch(one) for one in values) or not _plain(values.values()):
        problems.add(table, "delete", "set holds no values of fields", "write set = { product_uom_qty = 0 }")
    elif values and do is not None:
        problems.add(table, "delete", "has a rule with both set and do", "keep one of them")
    elif not values and do not in DONE_BY:
        wanted = f'write do = "unlink", one of {", ".join(DONE_BY)}, or set = {{ product_uom_qty = 0 }}'
        problems.add(table, "delete", "has a rule that says nothing that can be done", wanted)
    method = rule.get("method")
    if (do == "method") != (isinstance(method, str) and METHOD.fullmatch(method) is not None):
        problems.add(table, "delete", "has a rule without its method", 'write do = "method", method = "action_cancel"')
    done = "write" if values else str(method if do == "method" else do)
    return Removal(when, done, values, context(problems, table, rule))


def _plain(values: Iterable[Any]) -> bool:
    return all(isinstance(one, str | bool | int) or (isinstance(one, float) and math.isfinite(one)) for one in values)


def _is_condition(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == ["null"] and isinstance(value["null"], bool)
    if isinstance(value, list):
        return _plain(value)
    return isinstance(value, str | bool | int)
