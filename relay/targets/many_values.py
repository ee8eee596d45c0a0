"""May an event's body be read as JSON? Of 60 MB of `{},{},` Python makes 1.6 GB of objects, in 17 s of the loop."""

import re

from relay.delivery import Event

VALUES_MAX = 500_000  # 80 MB at most, and a second or two
# As many, of what is no text; of one match, or each text would be an object, too.
_MANY = re.compile(
    rb'(?:(?:[^"{\[,]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+[{\[,]){%d}+' % (VALUES_MAX + 1),
    re.DOTALL,
)


def too_many(event: Event) -> str:
    """Why it is not read; empty = it may be."""
    if event.values <= VALUES_MAX or not _MANY.match(event.body):
        return ""
    return f"the event is JSON of more than {VALUES_MAX} values, which are not read here"
