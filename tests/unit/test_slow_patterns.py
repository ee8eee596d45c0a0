"""Regular expressions over what others write: none takes for ever. (Meanwhile nothing else would run.)"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.receiving.harm import Ours, of_policies
from relay.targets.odoo.expression import Column, Expression
from relay.targets.odoo.external_ids import _shape
from tests.unit.test_transport import receive

PIECES = st.lists(st.sampled_from(["", "a", "b", "_", "a_"]), min_size=1, max_size=6)


def shape(pieces: list[str]) -> re.Pattern[str]:
    """Of an external id; an empty piece is a column."""
    return _shape(Expression("", tuple(piece or Column("c") for piece in pieces)))


@given(PIECES, st.text("ab_", max_size=9))
def test_an_external_id_has_the_shape_that_its_expression_makes(pieces: list[str], name: str) -> None:
    plain = "".join(re.escape(piece) or ".+" for piece in pieces)
    assert bool(shape(pieces).fullmatch(name)) == bool(re.fullmatch(plain, name))


def test_a_long_name_of_a_server_s_is_looked_at_in_no_time() -> None:
    began = time.thread_time()
    assert not shape(["o_", "", "_", "", "_", "", "_x"]).fullmatch("o" + 300_000 * "_" + "y")
    assert time.thread_time() - began < 2


SLOW = [
    "(.+)+x",
    "(?:.?){50}x" * 3,
    ".?" * 200 + "x",
    "(.|.)" * 40 + "x",
    "(" * 5000,
    "x{99999999999999999999}",
    "(a*)*" * 9,
]


@pytest.mark.parametrize("pattern", SLOW, ids=range(len(SLOW)))
def test_a_policy_whose_pattern_could_take_for_ever_is_taken_to_match(pattern: str) -> None:
    policy: dict[str, Any] = {"name": "p", "pattern": pattern, "definition": {"message-ttl": 5}}
    queue = Ours(30 * "o", "quorum", {}, 1)
    began = time.thread_time()
    assert [one.name for one in of_policies([policy], [], [queue], receive(HTTP_URL="http://localhost/"))] == [
        "policy p"
    ]
    assert time.thread_time() - began < 2


@pytest.mark.parametrize("pattern", ["^other", r"^(amq\.|x).*", "^(?!o).*$", "b+", "^[a-n]{1,9}$"])
def test_a_usual_pattern_is_looked_for(pattern: str) -> None:
    policy: dict[str, Any] = {"name": "p", "pattern": pattern, "definition": {"message-ttl": 5}}
    assert not list(of_policies([policy], [], [Ours("odoo", "quorum", {}, 1)], receive(HTTP_URL="http://localhost/")))
