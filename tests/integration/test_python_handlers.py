"""TARGET=python: events to functions, whatever those do."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dev.process import wait_until
from dev.vhost import Vhost
from tests.handling import Make, done, handlers, run
from tests.messages import Publisher
from tests.receiving import done as output


def test_events_go_to_their_functions_in_order(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    text = """
        import asyncio, signal
        asyncio.run(asyncio.sleep(0))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        def public_orders(key, op, new, attempt): _note(f"{key['id']} {op} {new['n']} {attempt}")

        @handles("shop.*")
        async def shop(topic, event): _note(f"{topic} {event['n']}")

        @handles("lazy.*")
        def lazy(event):
            async def later(): _note("lazy")
            return later()
    """
    receiver = script("receiver.py", handlers(vhost, tmp_path, text, HANDLER_LOG="on", UNHANDLED="ignore"))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(50):
        row = {"table": "public.orders", "key": {"id": n % 5}, "new": {"n": n}}
        publisher.event(f"public.orders {n % 5}", table="public.orders", body=row)
    publisher.event(None, table="shop.paid", n=7)
    publisher.event(None, table="lazy.one")
    publisher.event(None, table="public.others", op="insert")
    wait_until(lambda: len(done(tmp_path)) == 52, 20, "all calls")
    receiver.wait_for_log("IGNORED public.others insert")
    receiver.wait_for_log("PROCESSED lazy.one")
    lines = done(tmp_path)
    assert {"shop.paid 7", "lazy"} <= set(lines)
    for key in range(5):
        own = [line for line in lines if line.startswith(f"{key} ")]
        assert own == [f"{key} update {n} 1" for n in range(key, 50, 5)]
    assert "PROCESSED public.orders update key=" in receiver.log()
    assert " ms=" in receiver.log()
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("shop") == 0


RAISES = """
    import sqlite3
    class Odd(BaseException):
        def __str__(self): raise RuntimeError("hunter2")
    WHAT = dict(value=ValueError("hunter2"), key=KeyError("hunter2"), exit=SystemExit("hunter2"), odd=Odd("hunter2"))
    WHAT |= dict(interrupt=KeyboardInterrupt("hunter2"), refuse=Refuse("no stock"))
    WHAT |= dict(group=ExceptionGroup("hunter2", [ValueError("hunter2")]))
    def recurse(n): return recurse(n + 1)

    def public_orders(new):
        what = new["what"]
        if what in WHAT: raise WHAT[what]
        if what == "deep": recurse(0)
        if what == "generator": return (x for x in "ab")
        _note(what)
"""


def test_what_functions_raise_is_parked_by_evidence_and_no_secret_is_shown(
    vhost: Vhost, script: Make, tmp_path: Path
) -> None:
    receiver = script("receiver.py", handlers(vhost, tmp_path, RAISES, MAX_ATTEMPTS=2))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    bad = ["value", "key", "exit", "odd", "interrupt", "refuse", "group", "deep", "generator"]
    for name in bad:
        row = {"table": "public.orders", "key": {"id": 1}, "new": {"what": name}}
        publisher.event(f"bad {name}", table="public.orders", body=row)
    publisher.event("no topic", table="public.others")

    def parked() -> int:
        publisher.event("good", table="public.orders", body={"new": {"what": "good"}})
        time.sleep(0.1)
        return vhost.queue_depth("shop.parked") if "event refused" in receiver.log() else 0

    wait_until(lambda: parked() == len(bad) + 1, 40, "all parked")
    found = json.loads(output(run(receiver, "parked", "--json")))
    assert "hunter2" not in json.dumps(found) + receiver.log()
    reasons = " ".join(entry["reason"] for entry in found)
    for word in ("ValueError at shop_events.py:", "KeyError", "SystemExit", "Odd", "KeyboardInterrupt", "no stock",
                 "RecursionError", "ExceptionGroup", "generator", "no function takes it"):  # fmt: skip
        assert word in reasons
    assert receiver.alive()
    receiver.terminate()
    assert receiver.wait() == 0


def test_what_a_function_needs_is_down_and_nothing_is_parked(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    """Whatever else succeeds meanwhile."""
    text = """
        import psycopg2
        def _is_down(): return (HERE / "down").exists()
        def public_mails(new):
            if _is_down(): raise ConnectionRefusedError(111, "hunter2")
            _note("mail")
        def public_rows(new):
            if _is_down(): psycopg2.connect("host=127.0.0.1 port=1 password=hunter2")
            _note("row")
        def public_fine(new): _note("fine")
    """
    (tmp_path / "down").touch()
    receiver = script("receiver.py", handlers(vhost, tmp_path, text, MAX_ATTEMPTS=1))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(10):
        for table in ("public.mails", "public.rows", "public.fine"):
            publisher.event(f"{table} {n}", table=table)
    receiver.wait_for_log("endpoint does not work")
    wait_until(lambda: done(tmp_path).count("fine") == 10, 40, "the others")
    time.sleep(1)
    assert vhost.queue_depth("shop.parked") == 0
    (tmp_path / "down").unlink()
    wait_until(lambda: len(done(tmp_path)) == 30, 20, "all")
    assert vhost.queue_depth("shop.parked") == 0
    assert "hunter2" not in receiver.log()


def test_a_function_that_asks_for_time_gets_it(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    text = """
        def public_orders(new, attempt):
            _note(f"{time.monotonic()}")
            if len((HERE / "done").read_text().split()) < 3: raise Retry(after=1.0, reason="not yet")
    """
    receiver = script("receiver.py", handlers(vhost, tmp_path, text, MAX_ATTEMPTS=1))
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("a", table="public.orders")
    wait_until(lambda: len(done(tmp_path)) == 3, 20, "three tries")
    times = [float(line) for line in done(tmp_path)]
    assert times[1] - times[0] >= 1.0
    assert times[2] - times[1] >= 1.0
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("shop") == vhost.queue_depth("shop.parked") == 0


LATE = """
    def public_orders(key, new):
        _note(f"begin {new['n']}")
        if new["n"] == 0:
            while not (HERE / "go").exists(): time.sleep(0.05)
        _note(f"end {new['n']}")
    async def public_async(new):
        import asyncio
        _note("async begin")
        try: await asyncio.sleep(60)
        finally: _note("async end")
"""


def test_a_function_past_its_limit_is_not_tried_again_before_it_has_returned(
    vhost: Vhost, script: Make, tmp_path: Path
) -> None:
    more = {"HANDLER_TIME_LIMIT": "0.3", "MAX_ATTEMPTS": 3, "WORKERS": 1}
    receiver = script("receiver.py", handlers(vhost, tmp_path, LATE, **more))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in (0, 1):
        publisher.event("a", table="public.orders", body={"new": {"n": n}})
    receiver.wait_for_log("runs on past HANDLER_TIME_LIMIT")
    assert "at=shop_events.py:" in receiver.log()
    for n in (2, 3, 4):
        publisher.event("b", table="public.orders", body={"new": {"n": n}})
    wait_until(lambda: "end 4" in done(tmp_path), 20, "the other key")
    time.sleep(1)
    assert done(tmp_path).count("begin 0") == 1
    assert "begin 1" not in done(tmp_path)
    (tmp_path / "go").touch()
    wait_until(lambda: "end 1" in done(tmp_path), 20, "the rest of its key")
    assert done(tmp_path).count("begin 0") == 1, "it has succeeded at last"
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("shop") == 0


def test_a_function_past_its_limit_does_not_hold_up_the_end(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    more = {"HANDLER_TIME_LIMIT": "0.3", "SHUTDOWN_GRACE": 60}
    receiver = script("receiver.py", handlers(vhost, tmp_path, LATE, **more))
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("a", table="public.orders", body={"new": {"n": 0}})
    receiver.wait_for_log("runs on past HANDLER_TIME_LIMIT")
    began = time.monotonic()
    receiver.terminate()
    assert receiver.wait() == 0
    assert time.monotonic() - began < 5
    assert vhost.queue_depth("shop") == 1


def test_a_coroutine_past_its_limit_is_cancelled_and_tried_again(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    receiver = script("receiver.py", handlers(vhost, tmp_path, LATE, HANDLER_TIME_LIMIT="0.3"))
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("a", table="public.async")
    wait_until(lambda: done(tmp_path).count("async end") >= 2, 20, "two tries")
    lines = done(tmp_path)
    assert lines[:4] == ["async begin", "async end"] * 2, "never two at once"


def test_as_many_functions_as_hang_are_told_and_their_return_mends_it(
    vhost: Vhost, script: Make, tmp_path: Path
) -> None:
    text = """
        def public_orders(new):
            while not (HERE / "go").exists(): time.sleep(0.05)
            _note("end")
    """
    receiver = script("receiver.py", handlers(vhost, tmp_path, text, HANDLER_TIME_LIMIT="0.2", MAX_ATTEMPTS=1))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(12):
        publisher.event(f"k{n}", table="public.orders")
    receiver.wait_for_log("endpoint does not work")
    time.sleep(2)
    assert receiver.log().count("runs on past") <= 7, "four, and what had begun before"
    (tmp_path / "go").touch()
    wait_until(lambda: len(done(tmp_path)) == 12, 30, "all")
    time.sleep(0.5)
    assert len(done(tmp_path)) == 12, "none twice"


# One piece of C, as long on whatever interpreter: Debian's is twice as fast as one that is built without optimization.
# Three times what is worth a line: on a busy machine the first piece takes longer than the same in the second.
SIX_SECONDS = "began = time.thread_time(); sum(range(10**7)); N = int(6 * 10**7 / (time.thread_time() - began))"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def public_orders(new):\n    while not (HERE / 'go').exists():\n        sum(range(1000))", True),
        (f"{SIX_SECONDS}\ndef public_orders(new): sum(range(N))", True),
        ("def public_orders(new): time.sleep(3)", False),
        ("async def public_orders(new): time.sleep(5)", "async function blocks"),
    ],
)
def test_a_function_that_keeps_the_interpreter_is_named(
    vhost: Vhost, script: Make, tmp_path: Path, text: str, told: bool | str
) -> None:
    receiver = script("receiver.py", handlers(vhost, tmp_path, f"{text}\n", HEARTBEAT=60))
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("a", table="public.orders")
    if told is True:
        receiver.wait_for_log("function computes for seconds", 120)
        assert "function=shop_events.public_orders" in receiver.log()
    elif told:
        receiver.wait_for_log(str(told), 60)
        assert "at=shop_events.py:" in receiver.log()
    (tmp_path / "go").touch()
    wait_until(lambda: vhost.queue_depth("shop") == 0, 20, "its end")
    time.sleep(0.5)
    assert receiver.alive()
    if told is False:
        time.sleep(3)
        assert "computes" not in receiver.log()


def test_what_functions_leave_behind_ends_with_the_process(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    """Threads that nobody awaits, tasks that fail, a child that goes on, another directory."""
    text = """
        import asyncio, concurrent.futures, signal
        pool = concurrent.futures.ThreadPoolExecutor(2)
        def public_orders(new):
            if new["what"] == "thread": threading.Thread(target=time.sleep, args=(600,)).start()
            if new["what"] == "fails": threading.Thread(target=lambda: int("hunter2")).start()
            if new["what"] == "pool": pool.submit(time.sleep, 600)
            if new["what"] == "fork":
                if os.fork() == 0: return
            if new["what"] == "chdir": os.chdir("/")
            _note(new["what"])
        async def public_tasks(new):
            async def fails(): raise ValueError("of a task")
            async def ends(): raise SystemExit(3)
            asyncio.get_running_loop().create_task(fails())
            asyncio.get_running_loop().create_task(ends())
            await asyncio.sleep(0.1)
            _note("task")
    """
    receiver = script("receiver.py", handlers(vhost, tmp_path, text))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for name in ("thread", "pool", "fork", "chdir", "fails"):
        publisher.event(name, table="public.orders", body={"new": {"what": name}})
    publisher.event("t", table="public.tasks")
    wait_until(lambda: len(done(tmp_path)) == 6, 20, "all calls")
    publisher.event("again", table="public.tasks")
    wait_until(lambda: len(done(tmp_path)) == 7, 20, "the loop still turns")
    began = time.monotonic()
    receiver.terminate()
    assert receiver.wait() == 0
    assert time.monotonic() - began < 8
    assert sorted(done(tmp_path)) == ["chdir", "fails", "fork", "pool", "task", "task", "thread"]
    assert "defect" not in receiver.log()
    assert "of a task" not in receiver.log()
    receiver.wait_for_log("a task that an async function has left behind failed error=ValueError at=shop_events.py:")
    receiver.wait_for_log("a thread that a function has left behind failed error=ValueError at=")
    assert "hunter2" not in receiver.log()


def test_what_is_wrong_with_a_module_ends_the_start(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    settings = handlers(vhost, tmp_path, '@handles("public.orders")\ndef orders(evnt): ...')
    receiver = script("receiver.py", settings)
    receiver.start()
    assert receiver.wait() == 78
    assert "shop_events.orders: its argument evnt can't be given -> what there is: event, old" in receiver.log()
    assert "Traceback" not in receiver.log()
    shown = run(receiver, "check")
    assert shown.returncode == 78
    assert "Traceback" not in shown.stderr + shown.stdout


def test_check_lists_which_topics_go_to_which_function(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    text = """
        print("imported")
        def public_orders(old, new): _note("called")
        @handles("shop.*", op=["message"])
        def shop(topic, event): ...
        @handles("audit.log")
        def audit(event): ...
        def helper(text): ...
    """
    settings = handlers(vhost, tmp_path, text, BINDING_KEYS="public.orders,public.others,shop.#")
    shown = run(script("receiver.py", settings), "check", "--json")
    found = {one["name"]: one for one in json.loads(shown.stdout)}
    assert found["module shop_events"]["detail"] == str(tmp_path / "shop_events.py")
    assert found["public.orders (its name)"]["detail"] == "shop_events.public_orders(old, new)"
    assert found["shop.* message"]["detail"] == "shop_events.shop(topic, event)"
    assert found["no handler"]["detail"] == "shop_events.helper: its argument text can't be given"
    assert "no function takes it: it is parked" in found["public.others"]["detail"]
    assert "BINDING_KEYS does not have its topic audit.log" in found["shop_events.audit"]["detail"]
    assert done(tmp_path) == []


def test_try_calls_a_function_and_a_dry_run_does_not(vhost: Vhost, script: Make, tmp_path: Path) -> None:
    receiver = script("receiver.py", handlers(vhost, tmp_path, "def public_orders(new, id): _note(new['a'])"))
    event = tmp_path / "event.json"
    event.write_text('{"id": "x", "table": "public.orders", "op": "insert", "key": {"id": 1}, "new": {"a": 1.50}}')
    shown = run(receiver, "try", str(event), "--dry-run")
    assert "call     shop_events.public_orders(new, id)\nverdict  not sent (--dry-run)" in shown.stdout
    assert done(tmp_path) == []
    shown = run(receiver, "try", str(event))
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (0, "verdict  delivered")
    assert done(tmp_path) == ["1.50"]
