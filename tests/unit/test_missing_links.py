"""Rows that wait for the records they link to: for how long, who is told when they come, and what a circle is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery import Event, Verdict
from relay.targets.odoo.missing_links import REQUEST_MOST, Orphans
from relay.targets.odoo.plan import qualified


class Waiting:
    """Orphans on a clock of the test's own; a row's event has its external id."""

    def __init__(self) -> None:
        self.now = 0.0
        self.orphans = Orphans(100.0, (1.0, 60.0), lambda: self.now)

    def miss(self, own: str, *links: str, asked: float | None = None) -> tuple[str, ...]:
        """It was tried, and these were not there. Return who is woken."""
        event, found = Event(b"body", "t", id=own), [("link/id", link) for link in links]
        asked = self.now if asked is None else asked
        return tuple(one.id for one in self.orphans.missing(event, own, found, asked).wakes)

    def arrive(self, *own: str) -> set[str]:
        return {event.id for event in self.orphans.arrived(own)}

    def bare(self, own: str, *, loaded: bool = True) -> set[str]:
        return {event.id for event in self.orphans.tried_bare(own, loaded=loaded)}

    def circle(self, own: str) -> set[str]:
        return {name for _, name in self.orphans.circle(own)}


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def test_an_orphan_waits_longer_and_longer_then_it_is_its_own_failure(waiting: Waiting) -> None:
    event, found = Event(b"", "t", id="e"), []
    while (outcome := waiting.orphans.missing(event, "e", [("p/id", "x")], waiting.now)).verdict is Verdict.CONFLICT:
        found.append(outcome.wait)
        waiting.now += outcome.wait
    assert found == [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert outcome.reason == "no record p/id = x, after 124 s"
    waiting.arrive("e")
    assert waiting.orphans.missing(event, "e", [("p/id", "x")], waiting.now).verdict is Verdict.CONFLICT


def test_a_row_that_waits_here_itself_is_asked_for_only_once_it_may_have_been_discarded(waiting: Waiting) -> None:
    """Those that nobody has sent were behind it, in each turn."""
    waiting.miss("child", "parent")
    waiting.miss("parent", "root")
    waiting.now += 20
    assert waiting.orphans.overdue(10, 9) == [qualified("root")]
    waiting.arrive("root")
    waiting.now += REQUEST_MOST
    assert waiting.orphans.overdue(10, 9) == [qualified("parent")]


def test_who_waits_for_a_row_is_named_when_it_is_loaded(waiting: Waiting) -> None:
    waiting.miss("a", "x", "y")
    waiting.miss("b", "__import__.x")
    waiting.miss("c", "shop.x")
    assert waiting.arrive("z") == set()
    assert waiting.arrive("x") == {"b"}, "a would be tried in vain"
    assert waiting.arrive("b", "y") == {"a"}
    waiting.miss("a", "z")
    assert waiting.arrive("y") == set(), "it does not wait for that any more"


def test_a_row_that_came_while_another_asked_for_it_is_not_waited_for(waiting: Waiting) -> None:
    waiting.now = 5.0
    waiting.arrive("x")
    waiting.now = 6.0
    assert waiting.miss("a", "x", asked=4.0) == ("a",)
    assert waiting.miss("a", "x") == (), "it is gone again: back-off, or this would go round and round"


def test_a_circle_is_known_when_its_last_row_has_come_and_a_chain_is_none(waiting: Waiting) -> None:
    waiting.miss("a", "b")
    waiting.miss("b", "c", "outside")
    waiting.miss("before", "a")
    assert not waiting.circle("a")
    waiting.miss("c", "a", "elsewhere")
    assert [waiting.circle(one) for one in ("a", "b", "c", "before")] == [{"b"}, {"c"}, {"a"}, set()]
    waiting.miss("own", "own")
    assert waiting.circle("own") == {"own"}


def test_what_can_go_on_after_a_try_without_links_is_told_once(waiting: Waiting) -> None:
    waiting.miss("a", "b")
    waiting.miss("b", "a")
    waiting.miss("c", "b")
    assert waiting.bare("b") == {"a", "c"}
    assert waiting.bare("b") == set()
    assert waiting.bare("a", loaded=False) == {"b"}
    assert waiting.bare("a", loaded=False) == set()


class Odoo:
    """Takes a row if what it links to is there; of an index below its own a link may be required."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.rng, self.waiting = rng, Waiting()
        self.links = {n: {rng.randrange(size) for _ in range(rng.choice((0, 1, 1, 2, 3)))} for n in range(size)}
        self.required = {
            n: {link for link in links if link < n and rng.random() < 0.5} for n, links in self.links.items()
        }
        self.there: set[int] = set()
        self.done: set[int] = set()

    def attempt(self, row: int) -> set[int]:
        """As the target does. Return who is to be tried at once."""
        name, missing = f"r{row}", self.links[row] - self.there
        if not missing:
            self.there.add(row)
            self.done.add(row)
            woken = self.waiting.arrive(name)
        else:
            self.waiting.miss(name, *(f"r{link}" for link in missing))
            out = {int(one[1:]) for one in self.waiting.circle(name)}
            if not out:
                return set()
            loaded = not (missing - out) and not (self.required[row] & out)
            if loaded:
                self.there.add(row)
            woken = self.waiting.bare(name, loaded=loaded)
        return {int(one[1:]) for one in woken}


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_whatever_links_to_whatever_all_rows_get_their_links(seed: int, size: int) -> None:
    """In any order, with restarts; and nobody chases anybody."""
    odoo = Odoo(random.Random(seed), size)
    tries = 0
    while len(odoo.done) < size and tries < 200 * size:
        if odoo.rng.random() < 0.02:
            odoo.waiting = Waiting()  # killed; who was not done comes again
        awake = {odoo.rng.choice([row for row in range(size) if row not in odoo.done])}
        rounds = 0
        while awake:
            rounds += 1
            assert rounds < 10 * size + 10, "they chase each other"
            row = awake.pop()
            if row not in odoo.done:
                awake |= odoo.attempt(row)
        tries += rounds
    assert len(odoo.done) == size
    assert not odoo.waiting.orphans._waiting.rows
    assert not odoo.waiting.orphans._waiting.records


def test_external_ids_are_the_same_however_they_are_written() -> None:
    assert qualified("x") == qualified("__import__.x")
