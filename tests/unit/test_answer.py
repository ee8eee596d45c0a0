"""What an answer's headers say, and what they must not be able to do."""

import email.utils
import time

import pytest

from relay.targets.answer import RETRY_AFTER_MAX, retry_after

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("Sun, 06 Nov 1994 08:49:57 GMT", 20),
        ("Sunday, 06-Nov-94 08:49:57 GMT", 20),
        ("Sun Nov  6 08:49:57 1994", 20),
        (DATE, 0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", 0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", RETRY_AFTER_MAX),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MAX),
        ("604800", RETRY_AFTER_MAX),
        ("9" * 5000, RETRY_AFTER_MAX),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date_and_bounded(text: str, seconds: float) -> None:
    assert retry_after(text, DATE) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "-5", "1.5", "1e3", "inf", "nan", "soon", "\u0663", "\u00b2", " ", "0x10", "1_000"),
        *("Sun, 06 Nov 1994 25:49:57 GMT", "Sun, 31 Feb 1994 08:49:57 GMT", "Sun, 06 Nov 99999 08:49:57 GMT"),
        *("Sun, 06 Nov 1994 08:49:57 +0200", "1994-11-06T08:49:57Z", "Sun, 06 Nov 1994 08:49:57 GMT, 5"),
    ],
)
def test_nonsense_in_retry_after_counts_as_nothing(text: str) -> None:
    assert retry_after(text, DATE) == 0


def test_without_a_date_of_the_answer_our_clock_counts() -> None:
    assert 25 < retry_after(email.utils.formatdate(time.time() + 30, usegmt=True), "") <= 30
