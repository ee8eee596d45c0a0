"""Which rows wait for another request's, and who wakes them."""

from __future__ import annotations

import asyncio

from relay.delivery import Event
from relay.targets.odoo.headers import Headers, Names


def rows(*headers: str) -> dict[int, tuple[Event, Names]]:
    return {at: (Event(b"", "t", id=f"{at}"), Names([name])) for at, name in enumerate(headers)}


def family(own: str, *parents: str) -> dict[int, tuple[Event, Names]]:
    return {0: (Event(b"", "t", id=own), Names([own], parents))}


def names(*headers: str) -> list[Names]:
    return [Names([name]) for name in headers]


def test_few_rows_whose_header_another_request_has_wait_and_are_woken_at_its_end() -> None:
    async def use() -> None:
        headers = Headers()
        assert await headers.take(rows("a", "b", "a")) == set()
        other = rows("c", "d", "b", "e")
        assert await headers.take(other) == {2}
        assert headers.give_back(names("a", "b", "a")) == (woken := [other[2][0]]), woken
        assert await headers.take(rows("b", "x", "y", "z")) == set()
        assert headers.give_back(names("b", "x", "y", "z")) == []

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
        headers.give_back(names("a"))
        await asyncio.sleep(0)
        assert not taking.done(), "b is taken"
        headers.give_back(names("b", "c"))
        assert await taking == set()

    asyncio.run(use())


def test_children_of_one_parent_go_together_and_none_with_it() -> None:
    async def use() -> None:
        headers = Headers()
        assert await headers.take(family("child", "parent")) == set()
        assert await headers.take(family("other", "parent")) == set()
        parent = asyncio.ensure_future(headers.take(family("parent")))
        await asyncio.sleep(0)
        headers.give_back([Names(["child"], ["parent"])])
        await asyncio.sleep(0)
        assert not parent.done(), "the other child has it"
        headers.give_back([Names(["other"], ["parent"])])
        assert await parent == set()
        late = asyncio.ensure_future(headers.take(family("child", "parent")))
        await asyncio.sleep(0)
        assert not late.done()
        headers.give_back(names("parent"))
        assert await late == set()

    asyncio.run(use())


def test_a_parent_that_waits_is_not_overtaken_by_more_and_more_children() -> None:
    async def use() -> None:
        headers = Headers()
        assert await headers.take(family("child", "parent")) == set()
        waits = rows("parent", "x", "y", "z")
        assert await headers.take(waits) == {0}
        late = family("late", "parent") | {at: one for at, one in rows("", "p", "q", "r").items() if at}
        assert await headers.take(late) == {0}
        assert headers.give_back([Names(["child"], ["parent"])]) == [waits[0][0], late[0][0]]
        assert await headers.take(family("late", "parent")) == set()

    asyncio.run(use())


def test_a_request_with_a_parent_and_its_child_has_both() -> None:
    async def use() -> None:
        headers = Headers()
        both = {0: family("parent")[0], 1: family("child", "parent")[0]}
        assert await headers.take(both) == set()
        late = asyncio.ensure_future(headers.take(family("other", "parent")))
        await asyncio.sleep(0)
        assert not late.done()
        headers.give_back(one for _, one in both.values())
        assert await late == set()

    asyncio.run(use())
