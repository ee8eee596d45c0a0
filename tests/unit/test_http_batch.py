"""What an answer to several events says of each."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.targets.http_batch import items_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "status", "items", "index", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        ([{"id": "b", "status": 2}, {"id": "a", "status": 1}], [1, 2]),
        ([{"id": "b", "status": 2}], [None, 2]),
        ([{"id": "c", "status": 2}], [None, None]),
        ({"items": [{"index": {"status": 1}}, {"delete": {"status": 2}}]}, [1, 2]),
        ([{"status": 1}, {"status": 2}], [1, 2]),
        ([{"index": {"_id": "b", "status": 1}}, {"index": {"_id": "a", "status": 2}}], [1, 2]),
    ],
)
def test_items_by_id_or_by_place(answer: object, statuses: list[int | None]) -> None:
    found = items_of(json.dumps(answer).encode(), ["a", "b"])
    assert found is not None
    assert [one and one.get("status") for one in found] == statuses


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"5", b"null", b'{"a":1}', b"[1, 2]", b"[{}]", b'{"items": {}}', b"[" * 90_000]
)
def test_what_says_nothing(body: bytes) -> None:
    assert items_of(body, ["a", "b"]) is None


@given(JSON, st.lists(st.text(max_size=2), max_size=4))
def test_whatever_is_answered_there_is_one_for_each_or_none(answer: object, ids: list[str]) -> None:
    found = items_of(json.dumps(answer).encode(), ids)
    assert found is None or (len(found) == len(ids) and all(one is None or isinstance(one, dict) for one in found))
