"""What the two `check` commands find, and how it is told."""

import asyncio
import dataclasses
import json
import shlex
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from relay.cli import print_line
from relay.daemon import EX_CONFIG, EX_OK
from relay.log import Log


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: what was looked at, whether it is in order, and if not what to change."""

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""


def report(findings: Iterable[Finding], *, as_json: bool) -> int:
    """Print what `check` has found, as it is found. Return the exit status."""
    seen = []
    for one in findings:
        seen.append(dataclasses.asdict(one))
        if not as_json:
            line = f"{'ok' if one.ok else 'FAILED':6}  {one.name}" + (f": {one.detail}" if one.detail else "")
            print_line(line + (f" -> {one.remedy}" if one.remedy else ""))
    if as_json:
        sys.stdout.write(json.dumps(seen, indent=2) + "\n")
    return EX_OK if all(one["ok"] for one in seen) else EX_CONFIG


def each(found: AsyncIterator[Finding]) -> Iterator[Finding]:
    """The same findings, as they come, for who has no event loop."""

    async def following() -> Finding | None:
        return await anext(found, None)

    with asyncio.Runner() as runner:
        while (one := runner.run(following())) is not None:
            yield one


_EXPOSED = "every user of this host may read this file, and it holds secrets"


def warn_of_exposed(paths: Iterable[Path], log: Log) -> None:
    """Once, at the start."""
    for path in paths:
        log.warning(_EXPOSED, file=path, remedy=_close(path))


def exposed(paths: Iterable[Path]) -> Iterator[Finding]:
    """The same for `check`: no failure, as nothing stands still for it."""
    for path in paths:
        yield Finding(str(path), ok=True, detail=f"WARNING: {_EXPOSED}", remedy=_close(path))


def _close(path: Path) -> str:
    return f"chmod o= {shlex.quote(str(path))}"
