"""What the cache has is found while another process fetches something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import chromium, debian, promtool

pytestmark = pytest.mark.timeout(10)  # it would wait for as long as the other one fetches


def test_what_is_there_waits_for_no_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "_INSTALLED", ())
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    names = ("rabbitmq-trixie-4", "chromium-system", "promtool-system")
    rabbitmq, browser, metrics = (tmp_path / name for name in names)
    servers = rabbitmq / "usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5/sbin"
    for directory in (servers, rabbitmq / "bin", browser, metrics):
        directory.mkdir(parents=True)
    (rabbitmq / "bin/erl").touch()
    (rabbitmq / "home").write_text(str(rabbitmq))
    (metrics / "promtool").touch()
    with debian.locked(tmp_path / "lock"):
        assert debian.fetch("trixie", tmp_path).path == rabbitmq / "bin"
        assert chromium.find(tmp_path).program.is_relative_to(browser)
        assert promtool.find(tmp_path) == metrics / "promtool"
