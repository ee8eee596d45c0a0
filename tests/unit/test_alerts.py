"""Of which troubles a person is alerted, and when each is over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import alerts
from relay.alerts import Alert, Alerts, Pending

ROOT = Path(__file__).parents[2]


def told(looks: list[tuple[float, str | None]], *, after: float = 0.0, keep: float = 10.0) -> list[str]:
    """What is told of one cause. `looks`: when, and the reason; "" = nothing is wrong, None = it can't be told."""
    subject = Alerts({"x": after}, keep)
    found = []
    for now, reason in looks:
        seen = subject.look(now, {} if reason is None else {"x": reason})
        found += [f"{now:g} {'raised' if one.raised else 'ended'} {one.reason} x{one.times}" for one in seen]
    return found


@pytest.mark.parametrize(
    ("looks", "after", "expected"),
    [
        ([(0, ""), (1, "")], 0, []),
        ([(0, "a"), (1, "a"), (99, "a")], 0, ["0 raised a x1"]),
        ([(0, "a"), (1, "b"), (2, "c")], 2, ["2 raised c x1"]),
        ([(0, "a"), (1, "a"), (2, ""), (3, "a"), (4, "a")], 3, []),  # it began anew
        ([(0, "a"), (1, ""), (9, ""), (10, ""), (11, "")], 0, ["0 raised a x1", "10 ended a x1"]),
        ([(0, "a"), (1, ""), (5, "b"), (6, ""), (14, ""), (15, "")], 0, ["0 raised a x1", "15 ended b x2"]),
        ([(0, "a"), (1, None), (99, None)], 0, ["0 raised a x1"]),
        ([(0, "a"), (1, None), (99, "")], 0, ["0 raised a x1", "99 ended a x1"]),
        ([(0, "a"), (1, None), (9, "a")], 9, ["9 raised a x1"]),
        ([(0, None), (1, "a")], 0, ["1 raised a x1"]),
        ([(0, "a"), (10, ""), (11, "a")], 0, ["0 raised a x1", "10 ended a x1", "11 raised a x1"]),
    ],
)
def test_a_trouble_is_raised_once_it_lasts_and_over_once_it_stays_away(
    looks: list[tuple[float, str | None]], after: float, expected: list[str]
) -> None:
    assert told(looks, after=after) == expected


def test_causes_do_not_touch_each_other() -> None:
    subject = Alerts({"slow": 5.0}, 1.0)
    assert [one.cause for one in subject.look(0, {"slow": "a", "quick": "b"})] == ["quick"]
    assert [(one.cause, one.raised) for one in subject.look(5, {"slow": "a", "quick": ""})] == [
        ("slow", True), ("quick", False),
    ]  # fmt: skip


def test_an_alert_knows_since_when_and_until_when() -> None:
    subject = Alerts({"x": 2.0}, 5.0)
    subject.look(10, {"x": "a"})
    (raised,) = subject.look(13, {"x": "a"})
    subject.look(14, {"x": ""})
    (ended,) = subject.look(20, {"x": ""})
    assert (raised.since, raised.seen, ended.since, ended.seen) == (10, 13, 10, 13)


@given(st.lists(st.tuples(st.floats(0.1, 20), st.sampled_from(["", "a", None])), max_size=60), st.floats(0, 30))
def test_whatever_comes_they_take_turns(steps: list[tuple[float, str | None]], after: float) -> None:
    """Raised and ended, one after the other, and the first is that it is raised."""
    now, looks = 0.0, []
    for step, reason in steps:
        now += step
        looks.append((now, reason))
    words = [line.split()[1] for line in told(looks, after=after)]
    assert words == ["raised", "ended"] * (len(words) // 2) + ["raised"] * (len(words) % 2)


def alert(cause: str, *, raised: bool) -> Alert:
    return Alert(cause, raised, "r", 0.0, 0.0, 1)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("a+ b+", "a+ b+"),
        ("a+ a-", "a+ a-"),
        ("a+ a- a+", "a+"),
        ("a- a+", ""),  # that it had begun was told
        ("a- a+ a-", "a-"),
        ("a- b- a+", "b-"),
        ("a+ b+ a- b- a+ b+ a- b-", "a+ b+ a- b-"),
    ],
)
def test_what_waits_is_at_most_a_beginning_and_an_end_of_each(added: str, expected: str) -> None:
    pending = Pending()
    for word in added.split():
        pending.add(alert(word[0], raised=word[1] == "+"))
    left = []
    while one := pending.take():
        left.append(one.cause + ("+" if one.raised else "-"))
    assert " ".join(left) == expected


def test_every_cause_and_every_variable_is_documented() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()
    assert [cause for cause in alerts.CAUSES if f"| `{cause}` |" not in text] == []
    variables = set(re.findall(r'"(RELAY_[A-Z]+)"', (ROOT / "relay" / "alert_command.py").read_text()))
    assert variables
    assert set(re.findall(r"RELAY_[A-Z]+", text)) == variables
