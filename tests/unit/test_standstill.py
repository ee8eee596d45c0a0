"""Until when a request may be begun: a process that stood still, and a broker that is not heard."""

from relay.receiving.standstill import SILENCE, STILL, Standstill

HEARTBEAT = 10.0
STILL_SECONDS, SILENT_SECONDS = STILL * HEARTBEAT, SILENCE * HEARTBEAT


def test_requests_are_begun_only_while_the_lease_is_surely_ours() -> None:
    watch = Standstill(HEARTBEAT, 100.0, 1)
    now = 100.0
    for n in range(2, 100):  # heard all the time
        now += 1
        assert watch.begin_until(now, n) == now + STILL_SECONDS
    for silent in range(1, 12):
        until = watch.begin_until(now + silent, 99)
        assert until is not None
        assert until <= now + SILENT_SECONDS
        assert (until >= now + silent) == (silent <= SILENT_SECONDS)
    assert watch.begin_until(now + 12, 100) == now + 12 + STILL_SECONDS, "heard again"
    assert watch.begin_until(now + 12 + STILL_SECONDS + 0.1, 101) is None, "stood still"
