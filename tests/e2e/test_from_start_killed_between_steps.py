"""Kill -9 between every two steps of FROM_START: the new queue has all of it in the end, and the wish is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay.receiving.filling import Filling
from relay.receiving.queues import Declared
from relay.receiving.wishes import Wishes
from tests.listening import Listening
from tests.receiving import settings
from tests.steps import places

Make = Callable[..., Script]
ROWS = 40
STEPS = (
    *(Wishes.note, Wishes.load, Wishes.came, Wishes._put, Wishes._take, Wishes._is),
    *(Filling._fill, Filling._ask, Declared._queue, Declared._bind),
)


def killed_at(listening: Listening, script: Make, where: str, number: int) -> bool:
    """Begin with a new queue, with a kill at this place; True if the place was reached."""
    vhost, queue = listening.vhost, f"q{number}"
    with Endpoint() as endpoint:
        own = settings(
            vhost, endpoint, QUEUE=queue, FROM_START="public.t,public.u", SOURCE=listening.database.name,
            BINDING_KEYS="public.#",
        )  # fmt: skip
        environment = {"KILL_AT": where, "PYTHONPATH": str(ROOT / "tests" / "killing")}
        first, second = script("receiver.py", own, environment=environment), script("receiver.py", own)
        first.start()
        wait_until(lambda: not first.alive() or first.log().count("the new queue has it all") == 2, 30, "the fill")
        reached = not first.alive()
        if not reached:  # what comes after it
            wait_until(lambda: not first.alive() or vhost.queue_depth(f"{queue}.fill") == 0, 10, "the wish to go")
            reached = not first.alive()
        first.kill()
        second.start()
        second.wait_for_log("consuming")
        seen = lambda: {(body["table"], body["key"]["id"]) for body in endpoint.bodies()}  # noqa: E731
        everything = {(f"public.{table}", n + 1) for table in "tu" for n in range(ROWS)}
        wait_until(lambda: seen() == everything, 30, f"all rows ({where}): {len(seen())}")
        wait_until(lambda: vhost.queue_depth(f"{queue}.fill") == 0, 30, f"the wish to go ({where})")
        second.terminate()
        assert second.wait() == 0
        for name in (queue, f"{queue}.fill", f"{queue}.parked"):
            vhost.channel().queue_delete(name)
        return reached


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost, REQUESTS="on")
    made.bind()
    made.table(count=ROWS)
    made.table("u", count=ROWS)
    return made.start()


@pytest.mark.timeout(240)
def test_killed_at_some_of_the_steps(listening: Listening, script: Make) -> None:
    reached = [killed_at(listening, script, where, n) for n, where in enumerate(places(STEPS, 3, 14))]
    assert any(reached)
    assert listening.all_messages() == [], "nobody else got anything"


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("part", range(4))
def test_killed_at_every_step(listening: Listening, script: Make, part: int, hit: int) -> None:
    reached = [killed_at(listening, script, where, n) for n, where in enumerate(places(STEPS, part, 4, hit))]
    assert sum(reached) >= len(reached) // (3 * hit), "most of these lines are on the way"
