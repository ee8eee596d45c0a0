"""ONLY: which events of the queue are asked for, by what they say. Anything else is acknowledged, as done."""

from collections.abc import Mapping, Sequence
from typing import Any

from relay.delivery import Event
from relay.log import Log
from relay.targets.many_values import too_many
from relay.targets.template import Context, Missing, alike, as_text
from relay.values import Condition

TOLD_MAX = 100  # columns that there are not, which are told once each
_log = Log("receiver")


class Only:
    """Decides it.

    Args:
        conditions: all of them must hold. A condition on what an event does not have does not: on a column of `new`,
            where the row was deleted; NULL is the empty text.
    """

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._conditions = conditions
        self._told: set[tuple[str, str, str]] = set()

    def wants(self, event: Event) -> bool:
        """Is it asked for? What can't or may not be read, or is not signed as it must be, is not judged by that."""
        if not self._conditions or event.problem or event.claimed_id is not None:
            return True
        context = Context(event)
        return all(self._holds(one, event, context) for one in self._conditions)

    def _holds(self, condition: Condition, event: Event, context: Context) -> bool:
        if not condition.field:
            return (getattr(event, condition.name) in condition.values) is condition.wanted
        if too_many(event):
            return True
        try:
            row = context.value(condition.name, None)
            if not isinstance(row, Mapping):
                return False
            if condition.field not in row:
                self._tell(condition, event, row)
                return False
            return (as_text(row[condition.field]) in condition.values) is condition.wanted
        except Missing:
            return False

    def _tell(self, condition: Condition, event: Event, row: Mapping[str, Any]) -> None:
        """A misspelt column would let everything be acknowledged in silence."""
        known = event.topic, condition.name, condition.field
        if known in self._told or len(self._told) >= TOLD_MAX:
            return
        self._told.add(known)
        _log.warning(
            "ONLY names what events do not have: they are acknowledged, and not delivered",
            name=f"{condition.name}[{condition.field}]",
            topic=event.topic,
            did_you_mean=alike(condition.field, row) or None,
        )
