"""From a full queue through an empty Python function (TARGET=python): a plain one, and a coroutine.

The function is the clock: it counts, and writes down when it was first and last called.
"""

from __future__ import annotations

import json

from benchmarks import meters
from benchmarks.keys import Key
from benchmarks.measures.deliver import TIMEOUT, fill_queue
from benchmarks.site import QUEUE, Site
from dev.process import wait_until

KEYS = (
    Key("function_per_s", "4 workers, a Python function that does nothing", 2000, unit="/s"),
    Key("function_cpu_us", "processor time of the receiver an event of these", 350, low=True, unit="us"),
    Key("function_broker_us", "of RabbitMQ; the start of the receiver is in it", unit="us"),
    Key("function_event_per_s", "the same, given the parsed event", 2000, unit="/s"),
    Key("function_event_cpu_us", "processor time of the receiver an event of these", 350, low=True, unit="us"),
    Key("function_event_broker_us", "of RabbitMQ", unit="us"),
    Key("function_async_per_s", "4 workers, a coroutine that does nothing", 2000, unit="/s"),
    Key("function_async_cpu_us", "processor time of the receiver an event of these", 350, low=True, unit="us"),
    Key("function_async_broker_us", "of RabbitMQ", unit="us"),
)
COUNT = 20_000
NAME = "bench_functions"
_MODULE = """
import itertools, json, pathlib, time
numbers, began = itertools.count(1), []

{word}def {queue}({argument}):
    number = next(numbers)
    if number == 1:
        began.extend((time.monotonic(), time.process_time()))
    elif number == {count}:
        file = pathlib.Path(__file__).with_suffix(".took")
        took = [time.monotonic() - began[0], time.process_time() - began[1]]
        file.with_suffix(".part").write_text(json.dumps(took))
        file.with_suffix(".part").rename(file)
"""


def measure(site: Site) -> dict[str, float]:
    """One round."""
    found: dict[str, float] = {}
    for name, word, argument in (
        ("function", "", "id"),
        ("function_event", "", "event"),
        ("function_async", "async ", "id"),
    ):
        seconds, processor, broker = _by_function(site, word, argument)
        found |= {
            f"{name}_per_s": 1 / seconds,
            f"{name}_cpu_us": processor * 1e6,
            f"{name}_broker_us": broker * 1e6,
        }
    return found


def _by_function(site: Site, word: str, argument: str) -> tuple[float, float, float]:
    """Seconds an event; of processor time of the receiver, and of RabbitMQ."""
    count = site.sizes.events(COUNT)
    fill_queue(site, QUEUE, count, "quorum")
    site.settle()
    receiver = site.receiver(QUEUE=QUEUE, TARGET="python", PYTHON_HANDLERS=NAME)
    module = (receiver.directory / NAME).with_suffix(".py")
    module.write_text(_MODULE.format(word=word, queue=QUEUE, argument=argument, count=count))
    took = module.with_suffix(".took")
    with meters.spending({"broker": site.servers()["broker"]}) as spent, site.at_work(receiver):
        wait_until(took.exists, TIMEOUT, "the last call")
        seconds, processor = json.loads(took.read_text())
    site.drop_queues(QUEUE, f"{QUEUE}.parked")
    return seconds / count, processor / count, spent["broker"] / count
