"""Parts of a table in the mapping file: conditions, contexts, what `delete` does, and `actions`."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from relay.targets.odoo.mapping import LANGUAGE, Action, Removal
from relay.targets.odoo.mapping_problems import Problems

RESERVED = ("mode", "noupdate", "tz", "module")  # of Odoo's context: ours
DONE_BY = ("unlink", "archive", "ignore", "method")
ACTION = ("when", "method", "unless_record", "context", "after")
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
    for key in [key for key, value in found.items() if not _is_json(value)]:
        remedy = "write text, whole numbers, true or false, or lists of them"
        problems.add(table, key, "in the context holds what JSON has no word for", remedy)
    lang = found.get("lang", "en_US")
    if not isinstance(lang, str) or not LANGUAGE.fullmatch(lang):
        problems.add(table, "lang", "in the context is no language", 'write lang = "de_DE", the code that Odoo has')
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


def actions(problems: Problems, table: str, content: Mapping[str, Any]) -> tuple[Action, ...]:
    """Methods that are called for the records of a table."""
    found = content.get("actions", [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        problems.add(table, "actions", "is no list of actions", f'write [[table."{table}".actions]]')
        return ()
    made = tuple(_action(problems, table, one) for one in found)
    methods = [one.method for one in made]
    for method in sorted({method for method in methods if methods.count(method) > 1}):
        problems.add(table, "actions", f"there are two with the method {method}", "make one of them")
    return made


def _action(problems: Problems, table: str, action: Mapping[str, Any]) -> Action:
    problems.check_keys(table, action, ACTION, within="actions")
    method, after = action.get("method"), action.get("after", {})
    if not isinstance(method, str) or not METHOD.fullmatch(method):
        problems.add(table, "actions", "has one without its method", 'write method = "action_confirm"')
    if not action.get("unless_record"):
        remedy = 'write unless_record = { state = ["sale", "done"] }'
        problems.add(table, "actions", "has one that would be called at every change of a row", remedy)
    if not isinstance(after, dict) or not all(isinstance(one, str) for one in after.values()):
        remedy = 'write after = { "public.order_lines" = "line_count" }: the table, and the column that says how many'
        problems.add(table, "actions", "has one after something that is no table", remedy)
        after = {}
    when = condition(problems, table, action, "when", within="actions")
    unless = condition(problems, table, action, "unless_record", within="actions")
    return Action(str(method), when, unless, context(problems, table, action), after)


def _plain(values: Iterable[Any]) -> bool:
    return all(isinstance(one, str | bool | int) or (isinstance(one, float) and math.isfinite(one)) for one in values)


def _is_json(value: Any) -> bool:
    """Has JSON a word for it? It has none for TOML's dates, nan and inf."""
    if isinstance(value, dict | list):
        return all(map(_is_json, value.values() if isinstance(value, dict) else value))
    return _plain([value])


def _is_condition(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == ["null"] and isinstance(value["null"], bool)
    if isinstance(value, list):
        return _plain(value)
    return isinstance(value, str | bool | int)
