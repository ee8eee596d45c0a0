"""A pass through a part of the parking lot does not go on for single rows while many wait for the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.odoo_rows import customer, order, publish, settings
from tests.receiving import with_constants

Make = Callable[..., Script]
BUYERS, ROOT = 300, 300
PART = 100  # messages that a pass reads ahead


@pytest.mark.timeout(300)
def test_batches_stay_large_to_the_end_of_a_pass(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    """With each row that goes RabbitMQ hands out one more, and of these ever fewer are due: the others wait for it."""
    odoo.pace(0.05, 0.001)
    constants = ("sweep.AHEAD_MAX", "sweep.READ_ANYWAY", "index.READ_ANYWAY")
    made = {**settings(vhost, odoo, tmp_path), "PREFETCH": 80, "BATCH_SIZE": 20, "WORKERS": 2}
    receiver = script(
        "receiver.py",
        {key: value for key, value in made.items() if not key.startswith("RETRY")},
        environment=with_constants(*(f"relay.receiving.parking.{one}={PART}" for one in constants)),
    )
    receiver.start()
    receiver.wait_for_log("consuming")
    numbers = range(BUYERS)
    rows = [[order(n, customer_id=n), customer(n, parent=ROOT), order(BUYERS + n, customer_id=n)] for n in numbers]
    publish(vhost, [one for some in rows for one in some])
    wait_until(lambda: vhost.queue_depth("odoo.parked") > 2 * BUYERS, 60, "most of them in the parking lot")
    odoo.forget_requests()
    publish(vhost, [customer(ROOT)])
    wait_until(lambda: odoo.count("res.partner.bank", odoo.unique) == 2 * BUYERS, 120, "all orders")
    loads = odoo.requests(method="load")
    sizes, names = [one["rows"] for one in loads], [name for one in loads for name in one["firsts"]]
    assert len(names) == len(set(names)) == 3 * BUYERS + 1, "what a worker has at a pass's end is not loaded again"
    assert sum(size < 4 for size in sizes) < 25, sizes  # there were 38
    receiver.terminate()
    assert receiver.wait() == 0
