"""Which rows wait for another request's, and who wakes them."""

from __future__ import annotations

import asyncio

from relay.delivery import Event
from relay.targets.odoo.headers import Headers, Names


def rows(*headers: str) -> dict[int, tuple[Event, Names]]:
    return {at: (Event(b"", "t", id=f"{at}"), Names([name])) for at, name in enumerate(headers)}


def named(*headers: str) -> list[Names]:
    return [Names([name]) for name in headers]


def test_few_rows_whose_header_another_request_has_wait_and_are_woken_at_its_end() -> None:
    async def use() -> None:
        headers = Headers()
        assert await headers.take(rows("a", "b", "a")) == set()
        other = rows("c", "d", "b", "e")
        assert await headers.take(other) == {2}
        assert headers.give_back(named("a", "b", "a")) == (woken := [other[2][0]]), woken
        assert await headers.take(rows("b", "x", "y", "z")) == set()
        assert headers.give_back(named("b", "x", "y", "z")) == []

    asyncio.run(use())


def test_where_many_would_wait_all_do_and_a_row_without_a_header_is_kept_off_by_nobody() -> None:
    async def use() -> None:
        headers = Headers()
        await headers.take(rows("a"))
        assert await headers.take({0: (Event(b"", "t"), Names())}) == set()
        taking = asyncio.ensure_future(headers.take(rows("a", "b")))
        again = asyncio.ensure_future(headers.take(rows("b", "c")))
        await asyncio.sleep(0)
        assert (taking.done(), again.done()) == (False, True)
        headers.give_back(named("a"))
        await asyncio.sleep(0)
        assert not taking.done(), "b is taken"
        headers.give_back(named("b", "c"))
        assert await taking == set()

    asyncio.run(use())


def test_children_of_one_parent_keep_nobody_off_and_the_parent_is_not_overtaken_by_more_of_them() -> None:
    async def use() -> None:
        headers = Headers()
        child, other, parent = Names(["c"], ["p"]), Names(["d"], ["p"]), Names(["p"])
        assert await headers.take({0: (Event(b"", "t"), child)}) == set()
        assert await headers.take({0: (Event(b"", "t"), other)}) == set()
        fill = {at: (Event(b"", "t"), Names([f"f{at}"])) for at in range(3)}
        waits = Event(b"", "t")
        assert await headers.take(fill | {3: (waits, parent)}) == {3}
        late = {at: (Event(b"", "t"), Names([f"g{at}"])) for at in range(3)}
        third = Event(b"", "t")
        assert await headers.take(late | {3: (third, Names(["e"], ["p"]))}) == {3}, "the parent waits already"
        assert headers.give_back([child]) == []
        assert headers.give_back([other]) == [waits, third]

    asyncio.run(use())
