"""May a queue be read, by what RabbitMQ says of it? Each row is a word of RabbitMQ's that was met."""

import pytest

from relay.receiving.fence import STEADY_SECONDS, Decision, Probe, decide, seems_free

WAIT, FREE = Decision.WAIT, Decision.FREE
CONFIRMED, REFUSED, BLOCKED = Probe.CONFIRMED, Probe.REFUSED, Probe.BLOCKED
LONG = STEADY_SECONDS + 1


@pytest.mark.parametrize(
    ("consumers", "messages", "probe", "trusted", "certain", "free_for", "expected"),
    [
        # A dead receiver that RabbitMQ still counts, however sure the rest is.
        (1, 0, None, True, True, LONG, WAIT),
        (1, 300, CONFIRMED, True, True, LONG, WAIT),
        (1, 0, None, False, False, LONG, WAIT),
        # Its word is of now: a confirm came after all of its log.
        (0, 300, CONFIRMED, True, True, 0.0, FREE),
        (0, 1, CONFIRMED, True, True, 0.0, FREE),
        # "No messages", with the probe in it: that is no answer. The same of one that is full.
        (0, 0, CONFIRMED, True, True, LONG, WAIT),
        (0, 0, REFUSED, False, True, LONG, WAIT),
        # Whoever has confirmed before is believed without another probe.
        (0, 0, None, True, True, 0.0, FREE),
        # It refuses the probe: full, or without a leader. Believed once it says the same for long enough.
        (0, 300, REFUSED, False, True, 0.0, WAIT),
        (0, 300, REFUSED, False, True, STEADY_SECONDS, WAIT),
        (0, 300, REFUSED, False, True, LONG, FREE),
        # An alarm, or as many probes in it as may be: the same, and "no messages" may be true.
        (0, 0, BLOCKED, False, True, 0.0, WAIT),
        (0, 0, BLOCKED, False, True, LONG, FREE),
        (0, 2, None, False, True, LONG, FREE),
        # Nothing will be read from it, so that nothing can come in another order.
        (0, 5, None, False, False, 0.0, FREE),
        (0, 0, None, False, False, 0.0, FREE),
    ],
)  # fmt: skip
def test_a_queue_is_read_only_if_nobody_reads_it_and_that_is_certain(
    consumers: int,
    messages: int,
    probe: Probe | None,
    trusted: bool,
    certain: bool,
    free_for: float,
    expected: Decision,
) -> None:  # fmt: skip
    assert decide(consumers, messages, probe, trusted=trusted, certain=certain, free_for=free_for) is expected


def test_the_time_for_which_it_has_seemed_free_begins_anew_with_each_contradiction() -> None:
    assert seems_free(0, 3, REFUSED)
    assert seems_free(0, 0, BLOCKED)
    assert not seems_free(1, 3, None)
    assert not seems_free(0, 0, REFUSED)
