"""How an Erlang node comes up in half of the processor time: its modules are loaded all at once.

RabbitMQ calls nearly every module of its applications while it starts. Erlang loads each when it is first called, and
for each anew copies its table of all exported functions: 6.8 s of processor time for 1,100 modules, 3.2 s if they are
named beforehand (3.10, Erlang 25).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

# Read by the node in its working directory, before RabbitMQ's own flags. What cannot be loaded now is loaded later.
FLAGS = """-eval '{ok, [Modules]} = file:consult("modules"), code:ensure_modules_loaded(Modules).'"""
FILE = "modules"
_ROOTS = ("rabbitmq_management", "rabbitmq_prelaunch", "systemd", "tools")
_DEPENDENCIES = re.compile(r"\{applications,\s*\[(.*?)\]", re.DOTALL)


def modules(*libraries: Path) -> str:
    """An Erlang list of the modules that RabbitMQ with its management plugin needs, with a full stop.

    Args:
        libraries: directories of applications; of one that is in several, the first counts.
    """
    homes: dict[str, Path] = {}
    for library in libraries:
        for resource in sorted(library.glob("*/ebin/*.app")):
            homes.setdefault(resource.stem, resource)
    names = sorted(beam.stem for name in _needed(homes) for beam in homes[name].parent.glob("*.beam"))
    return "[" + ", ".join(f"'{name}'" for name in names) + "].\n"


def _needed(homes: dict[str, Path]) -> Iterator[str]:
    """The applications that are there and that RabbitMQ starts, each once."""
    seen, todo = set[str](), [*_ROOTS]
    while todo:
        name = todo.pop()
        if name in homes and name not in seen:
            seen.add(name)
            yield name
            if found := _DEPENDENCIES.search(homes[name].read_text()):
                todo += re.findall(r"\w+", found[1])
