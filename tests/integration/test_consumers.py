"""receiver.py --consumer: many consumers in one file, each a process; check and status of one or all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dev import forkserver
from dev.doubles.endpoint import Endpoint
from dev.process import start, wait_until
from dev.script import ROOT
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import bare


def receiver(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "receiver.py"), *arguments]
    return forkserver.run(command, timeout=60, env=bare())


@pytest.fixture
def directory(vhost: Vhost, endpoint: Endpoint, tmp_path: Path) -> Path:
    (tmp_path / "config.env").write_text(f"RABBITMQ_URL={vhost.url}\nHTTP_URL={endpoint.url}\n")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop.py").write_text(
            f"def public_{name}(event): open({str(tmp_path / name)!r} + '.done', 'a')"
        )
    (tmp_path / "consumers.toml").write_text(
        f"""
        [orders]
        BINDING_KEYS = ["public.orders"]
        [first]
        TARGET = "python"
        PYTHON_HANDLERS = "shop"
        HANDLER_PATH = "{tmp_path}/a"
        BINDING_KEYS = "public.a"
        [second]
        TARGET = "python"
        PYTHON_HANDLERS = "shop"
        HANDLER_PATH = "{tmp_path}/b"
        BINDING_KEYS = "public.b"
        """
    )
    return tmp_path


def test_each_is_a_process_and_check_and_status_are_of_one_or_all(
    vhost: Vhost, endpoint: Endpoint, directory: Path
) -> None:
    options = ("--consumers", str(directory / "consumers.toml"))
    log = directory / "log"
    running = [
        start([sys.executable, str(ROOT / "receiver.py"), *options, "--consumer", name], log, bare(), ROOT)
        for name in ("orders", "first")
    ]
    try:
        wait_until(lambda: log.exists() and log.read_text().count("consuming") == 2, 20, "both at work")
        publisher = Publisher(vhost)
        publisher.event("k", table="public.orders")
        publisher.event("k", table="public.a")
        wait_until(lambda: len(endpoint.completed) == 1 and (directory / "a.done").exists(), 20, "both events")

        one = receiver("status", *options, "--consumer", "orders", "--json")
        assert json.loads(one.stdout)["receiver"]["queue"] == "orders"
        shown = receiver("status", *options, "--all", "--json")
        found = json.loads(shown.stdout)
        assert shown.returncode == 0
        assert list(found) == ["orders", "first", "second"]
        assert (found["first"]["receiver"]["target"], found["orders"]["receiver"]["delivered"]) == ("python", 1)
        assert "queue second does not exist" in found["second"]["problem"]
        shown = receiver("status", *options, "--all")
        assert "[orders]" in shown.stdout
        assert "[first]" in shown.stdout
        assert "queue second does not exist" in shown.stdout

        checked = receiver("check", *options, "--all", "--json")
        lines = {line["name"]: line["detail"] for line in json.loads(checked.stdout)}
        assert lines["first: module shop"] == str(directory / "a" / "shop.py")
        assert lines["second: module shop"] == str(directory / "b" / "shop.py")
        assert lines["second: public.b (its name)"] == "shop.public_b(event)"
        assert "one is at work" in lines["orders: receiver"]
        nagios = receiver("check", *options, "--all", "--nagios")
        assert "first_waiting=0" in nagios.stdout
    finally:
        for process in running:
            process.kill()


def test_what_is_wrong_with_one_does_not_keep_from_the_others(directory: Path) -> None:
    file = directory / "consumers.toml"
    file.write_text(file.read_text().replace('BINDING_KEYS = "public.a"', 'WORKERS = "many"'))
    checked = receiver("check", "--consumers", str(file), "--all", "--json")
    assert checked.returncode == 78
    found = {line["name"]: line for line in json.loads(checked.stdout)}
    assert "WORKERS=many: out of range" in found["first: settings"]["detail"]
    assert "second: module shop" in found
    one = receiver("--consumers", str(file), "--consumer", "first")
    assert one.returncode == 78
    assert "[first] WORKERS=many: out of range" in one.stderr
    assert "Traceback" not in one.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--consumer", "nobody"], "has no consumer nobody -> write [nobody] there; it has: orders, first, second"),
        (["check", "--all", "--consumer", "first"], "--all is of all consumers"),
        (["parked"], "--consumers needs --consumer NAME, or --all"),
    ],
)
def test_a_command_line_that_will_not_do(directory: Path, arguments: list[str], told: str) -> None:
    shown = receiver("--consumers", str(directory / "consumers.toml"), *arguments)
    assert shown.returncode in (2, 78)
    assert told in shown.stderr


def test_beside_an_env_file(directory: Path) -> None:
    shown = receiver("--env-file", str(directory / "config.env"), "check", "--consumer", "first")
    assert "module shop" in shown.stdout
