"""An event of JSON with millions of values, or with a text of megabytes where a line is: it is refused, by itself.

Whoever writes to a watched table with a column of JSON makes one. It took gigabytes, and so much of the loop's time
that the session ended; the next one met it first again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dev.doubles.endpoint import Endpoint
from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.vhost import Vhost
from tests.handling import Make, handlers
from tests.handling import done as handled
from tests.integration.test_receiver_flooded import peak
from tests.messages import Publisher, properties
from tests.odoo_rows import settings as odoo_settings
from tests.receiving import settings

VALUES = b'{"key":{"id":1},"new":{"id":1,"j":[' + b"{}," * (20 << 20) + b"1]}}"
TEXT = b'{"key":{"id":1},"new":{"id":"' + b"x" * (60 << 20) + b'"}}'
HOW = {
    "url": (VALUES, "{url}/{{key[id]}}", {}, "more than 500000 values"),
    "batch": (VALUES, "{url}", {"HTTP_BATCH": 10}, "more than 500000 values"),
    "only": (VALUES, "{url}", {"ONLY": "new[id]=7"}, ""),
    "python": (VALUES, "", {}, "more than 500000 values"),
    "text in a url": (TEXT, "{url}/{{new[id]}}", {}, "too long"),
    "text in a header": (TEXT, "{url}", {"HTTP_HEADERS": '{"X": "{new[id]}"}'}, "too long"),
}


@pytest.mark.parametrize("how", HOW)
def test_it_takes_neither_the_memory_nor_the_session(
    vhost: Vhost, script: Make, endpoint: Endpoint, tmp_path: Path, how: str
) -> None:
    body, url, more, why = HOW[how]
    given: Mapping[str, object] = {**settings(vhost, endpoint), "HTTP_URL": url.format(url=endpoint.url), **more}
    if how == "python":
        given = handlers(vhost, tmp_path, "def t(new): _note(new['id'])")
    receiver = script("receiver.py", {**given, "MAX_ATTEMPTS": 1, "BINDING_KEYS": "#"})
    receiver.start()
    receiver.wait_for_log("consuming")
    vhost.channel().basic_publish("relay", "t", body, properties("large", "t 1", "t", "update"))
    Publisher(vhost).event("t 7", body={"key": {"id": 7}, "new": {"id": 7}})
    if why:
        receiver.wait_for_log("event refused and parked")
        assert why in receiver.log()
    # What ONLY cannot judge is not lost.
    count = 2 if how == "only" else 1
    wait_until(lambda: len(handled(tmp_path) if how == "python" else endpoint.completed) == count, 20, "the other one")
    wait_until(lambda: vhost.queue_depth(str(given["QUEUE"])) == 0, 20, "both to be done with")
    assert receiver.log().count("consuming") == 1, "it is the same session"
    assert peak(receiver) < 420


def test_a_window_of_rows_with_many_values_takes_little_more_than_its_bytes(
    vhost: Vhost, script: Make, odoo: Odoo, tmp_path: Path
) -> None:
    """Of sixteen, each below the limit, there were 251 MiB."""
    receiver = script("receiver.py", odoo_settings(vhost, odoo, tmp_path))
    receiver.start()
    receiver.wait_for_log("consuming")
    channel = vhost.channel()
    receiver.pause()
    for n in range(16):
        values = b'"name":"N%d","email":null,"parent":null,"j":[%b1]' % (n, b"1," * 450_000)
        body = b'{"table":"public.customers","op":"insert","key":{"id":%d},"old":null,"new":{"id":%d,%b}}' % (
            n,
            n,
            values,
        )
        channel.basic_publish(
            "relay", "public.customers", body, properties(f"many {n}", f"c {n}", "public.customers", "insert")
        )
    receiver.resume()
    wait_until(lambda: len(odoo.records("res.partner", odoo.unique)) == 16, 60, "all rows")
    assert peak(receiver) < 170
