"""Which calls of `load` do rows need? Fields of the creation, links, files and languages may want their own. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from relay.targets.odoo.external_ids import Fields
from relay.targets.odoo.mapping import TableMapping

Step = tuple[Sequence[int], Mapping[str, Any]]


def steps(
    table: TableMapping, types: Fields, columns: int, left_out: Collection[int], files: Collection[int]
) -> list[Step]:
    """The calls of `load` that rows need, one where the mapping wants nothing special.

    Args:
        columns: how many there are beside the first, the external id.
        left_out: positions of those that these rows do not set.
        files: positions of those that are written after the others.
    """
    spoken = {at: one.lang for at, one in enumerate(table.fields, 1) if one.lang}
    later = [at for at in files if at not in left_out and at <= len(table.fields)]
    every = [at for at in range(1, columns + 1) if at not in left_out and at not in spoken and at not in later]
    created = range(1 + len(table.fields), 1 + len(table.fields) + len(table.create))
    many = {at for at, one in enumerate(table.all_fields, 1) if types[one.name].get("type") == "many2many"}
    added = [at for at in every if at in many and table.all_fields[at - 1].many]
    adding = {"update_many2many": True} if added else {}
    found: list[Step] = []
    if not set(created) <= set(left_out):
        found.append((every, {"mode": "update"}))
    # Odoo adds the links of all of a call's fields, or of none.
    apart = [at for at in added if at not in created] if many - set(added) - set(left_out) else []
    rest = [at for at in every if at not in created and at not in apart]
    if rest or not found:
        found.append((rest, {} if apart else adding))
    if apart:
        found.append((apart, adding))
    found.append((later, {}))
    for language in table.languages:
        texts = [at for at, one in spoken.items() if one == language and at not in left_out]
        found.append((texts, {"lang": language}))
    return [one for one in found if one[0]] or [([], {})]
