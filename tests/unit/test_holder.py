"""A standby believes RabbitMQ, and then the holder of the lease."""

from __future__ import annotations

from relay.amqp.standby import Watch
from relay.receiving.holder import sign


def test_a_squatter_whose_answers_tell_of_work_is_found_out_by_the_messages_that_nobody_reads() -> None:
    """Each of its answers has delivered more; and other publishers' messages make the queue longer."""
    watch = Watch()
    idle = [
        watch.is_idle(sign(delivered, delivered, 0, is_silent=False), float(delivered), 20.0)
        for delivered in range(1, 40)
    ]
    assert idle.index(True) in (20, 21)
    assert all(idle[21:])


def test_a_holder_that_delivers_is_at_work() -> None:
    watch = Watch()
    assert not any(watch.is_idle(sign(n, 5, 1, is_silent=False), float(n), 20.0) for n in range(1, 100))


def test_what_stays_the_same_while_messages_wait_is_no_work() -> None:
    for same in (sign(7, 5, 1, is_silent=False), sign(None, 5, 1, is_silent=False), sign(None, 0, 1, is_silent=True)):
        watch = Watch()
        assert [watch.is_idle(same, float(at), 20.0) for at in (0, 19, 21)] == [False, False, True]


def test_an_empty_queue_asks_for_no_work() -> None:
    watch = Watch()
    assert not any(watch.is_idle(sign(7, 0, 1, is_silent=False), float(at), 20.0) for at in range(100))
