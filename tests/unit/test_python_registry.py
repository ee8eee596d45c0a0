"""TARGET=python: which function gets which event, and what is wrong with functions is told at the start."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from relay import handlers
from relay.amqp.routing import takes
from relay.delivery import Event
from relay.targets.python import modules
from relay.targets.python.registry import Registry, collect, overlap

Write = Callable[..., tuple[Registry, list[str]]]


@pytest.fixture
def registry(tmp_path: Path) -> Write:
    """The functions of a module with this text, and what is wrong with them."""

    def make(text: str, name: str = "shop_events") -> tuple[Registry, list[str]]:
        head = "from relay.handlers import handles\n"
        (tmp_path / f"{name}.py").write_text(head + textwrap.dedent(text))
        found, problems = modules.load([name], [tmp_path])
        assert problems == []
        made, wrong, _helpers = collect(found)
        return Registry(made), [what for what, _remedy in wrong]

    return make


def test_a_function_gets_what_its_name_is_or_what_it_says(registry: Write) -> None:
    found, problems = registry(
        """
        def public_orders(event): ...
        def public_order_lines(new, old=None, mode="w"): ...
        @handles("shop.*", op="message")
        @handles("other.#")
        def shop(topic): ...
        @handles("public.orders", op=["insert", "snapshot"])
        def first(event): ...
        @handles("shop.paid")
        async def paid(**everything): ...
        def helper(to, text): ...
        def nothing(): ...
        def _hidden(event): ...
        """
    )
    assert problems == []

    def name(topic: str, op: str = "message") -> str | None:
        one = found.find(Event(b"", topic, op=op))
        return one.short if one else None

    assert name("public.orders", "update") == "public_orders"
    assert name("public.orders", "insert") == "first", "one with op before one without"
    assert name("public.order_lines") == "public_order_lines"
    assert name("public.order.lines") == "public_order_lines"
    assert name("shop.sent") == "shop"
    assert name("shop.paid") == "paid", "an exact topic before a pattern"
    assert name("shop.sent", "insert") is None
    assert name("shop.a.b") is None
    assert name("other.a.b", "insert") == "shop"
    for topic in ("helper", "nothing", "_hidden", "shop", "first", "handles", ""):
        assert name(topic) is None, topic
    (paid,) = [one for one in found.handlers if one.short == "paid"]
    assert set(paid.arguments) == set(handlers.ARGUMENTS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('@handles("a.b")\ndef f(event): ...\n@handles("a.b")\ndef g(event): ...', "f and shop_events.g both take a.b"),
        ('@handles("a.*")\ndef f(event): ...\n@handles("*.b")\ndef g(event): ...', "neither is more exact"),
        ('def a_b(event): ...\n@handles("a.b")\ndef g(event): ...', "both take"),
        (
            '@handles("a", op="insert")\ndef f(event): ...\n@handles("a", op=["delete", "insert"])\ndef g(op): ...',
            "both",
        ),
        ('@handles("a")\ndef f(evnt): ...', "shop_events.f: its argument evnt can't be given"),
        ('@handles("a")\ndef f(event, /): ...', "its argument event can't be given by its place"),
        ('@handles("a")\ndef f(event):\n    yield event', "shop_events.f: it yields"),
        ('@handles("a")\nasync def f(event):\n    yield event', "shop_events.f: it yields"),
        (
            'def hide(f):\n    return 1\n@hide\n@handles("a")\ndef f(event): ...\ndef g(event): ...',
            "nobody can find it",
        ),
        ("x = 1", "there is no function for events"),
        ("def f(to): ...", "there is no function for events"),
    ],
)
def test_what_is_wrong_is_told_by_name(registry: Write, text: str, told: str) -> None:
    _found, problems = registry(text)
    assert len(problems) == 1, problems
    assert told in problems[0]


DECORATED = """
import functools
def deco(f):
    @functools.wraps(f)
    def g(*a, **k): return f(*a, **k)
    return g
@deco
@handles("a")
def f(event): ...
"""


@pytest.mark.parametrize(
    "text",
    [
        '@handles("a.*", op="insert")\ndef f(event): ...\n@handles("*.b", op="delete")\ndef g(event): ...',
        '@handles("a.*")\ndef f(event): ...\n@handles("a.#")\ndef g(event): ...',
        '@handles("a.*.c")\ndef f(event): ...\n@handles("a.#")\ndef g(event): ...',
        '@handles("a.*")\ndef f(event): ...\n@handles("b.*")\ndef g(event): ...',
        '@handles("a")\n@handles("a")\ndef f(event): ...\nother = f',
        DECORATED,
    ],
)
def test_what_cannot_both_be_meant_is_no_mistake(registry: Write, text: str) -> None:
    found, problems = registry(text)
    assert problems == []
    assert found.handlers


_pattern = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=4).map(".".join)
_topic = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map(".".join)


@hypothesis.given(_pattern, _pattern, _topic)
def test_patterns_that_take_one_topic_overlap(one: str, other: str, topic: str) -> None:
    if takes(one, topic) and takes(other, topic):
        assert overlap(tuple(one.split(".")), tuple(other.split(".")))
    if "#" not in one + other and len(one.split(".")) != len(other.split(".")):
        assert not overlap(tuple(one.split(".")), tuple(other.split(".")))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f(:", "line 2: invalid syntax"),
        ("import no_such_library", "imports no_such_library, which is not there (shop_events.py:2)"),
        ("import sys\nsys.exit(3)", "ends the program when it is imported (shop_events.py:3)"),
        ("from relay.handlers import nothing", "what it imports from relay.handlers is not there"),
        ('raise ValueError("secret")', "can't be imported: ValueError (shop_events.py:2)"),
        ('int("secret")', "can't be imported: ValueError (shop_events.py:2)"),
        ("class Odd(Exception):\n    def __str__(self): raise OSError\nraise Odd", "can't be imported: Odd"),
        ('@handles("a", op="insrt")\ndef f(event): ...', "op='insrt' is none of insert, update"),
        ('@handles("a")\nclass F: ...', "stands above no function"),
        ('class F:\n    @handles("a")\n    def f(self, event): ...', "F.f is a method"),
        ("@handles\ndef f(event): ...", "@handles names a topic"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_in_a_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "shop_events.py").write_text(f"from relay.handlers import handles\n{text}\n")
    found, problems = modules.load(["shop_events"], [tmp_path])
    assert found == []
    ((what, remedy),) = problems
    assert told in what
    assert remedy
    assert "secret" not in what + remedy


def test_modules_that_import_each_other(tmp_path: Path) -> None:
    (tmp_path / "shop_one.py").write_text("from shop_two import b\na = 1\n")
    (tmp_path / "shop_two.py").write_text("from shop_one import a\nb = 1\n")
    _found, problems = modules.load(["shop_one"], [tmp_path])
    assert "in a circle (shop_two.py:1)" in problems[0][0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("email", "email is the name of a module of Python itself"),
        ("json.shop", "json is the name of a module of Python itself"),
        ("relay.shop", "relay is the name of a module of the relay itself"),
        ("pika", "too, which is found first"),
        ("shop_missing", "there is no module shop_missing in /"),
        ("wares.missing", "there is no module wares.missing in /"),
    ],
)
def test_a_name_that_leads_elsewhere(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "wares").mkdir()
    (tmp_path / "wares" / "__init__.py").touch()
    (tmp_path / "pika.py").touch()
    _found, problems = modules.load([name], [tmp_path])
    assert told in problems[0][0]


def test_what_an_import_changes_is_put_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Django's settings turn the log off, others set signals."""
    import logging
    import signal

    (tmp_path / "shop_rude.py").write_text(
        "import logging.config, os, signal, sys\n"
        "print('hello')\nos.chdir('/')\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.set_wakeup_fd(-1)\n"
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'ERROR', 'handlers': []}})\n"
        "def public_orders(event): ...\n"
    )
    log, directory = logging.getLogger("receiver"), Path.cwd()
    handler, level, before = logging.NullHandler(), logging.root.level, signal.getsignal(signal.SIGTERM)
    logging.root.addHandler(handler)
    try:
        found, problems = modules.load(["shop_rude"], [tmp_path])
        assert (len(found), problems) == (1, [])
        assert Path.cwd() == directory
        assert signal.getsignal(signal.SIGTERM) is before
        assert handler in logging.root.handlers
        assert logging.root.level == level
        assert not log.disabled
    finally:
        logging.root.removeHandler(handler)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_another_consumers_module_of_the_same_name_is_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop_same.py").write_text(f"def only_{name}(event): ...\n")
    for name in ("a", "b"):
        found, _problems = modules.load(["shop_same"], [tmp_path / name])
        assert hasattr(found[0], f"only_{name}")
