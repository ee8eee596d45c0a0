"""Through a pgbouncer: check, resend and the daemon say so before they set anything, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from dev import pgbouncer
from dev.database import Database
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, run


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_is_named_and_gets_no_setting_of_ours(
    script: Callable[..., Script], database: Database, vhost: Vhost, tmp_path: Path, mode: str
) -> None:
    with pgbouncer.running(database, tmp_path / "pgbouncer", mode) as dsn:
        listening = Listening(script, database, vhost, DATABASE_URL=dsn)
        listening.table()
        checked = run(listening, "check")
        assert checked.returncode == 78
        assert "is reached through a pooler" in checked.stdout
        assert ("in transaction mode" in checked.stdout) == (mode == "transaction")
        assert "is reached through a pooler" in run(listening, "resend", "public.t").stderr
        for arguments in (["status"], ["release", "--all"]):  # these may go through it
            assert run(listening, *arguments).returncode == 0
        listening.script.start()
        assert listening.script.wait(20) == 78
        assert "is reached through a pooler" in listening.script.log()
        stranger = psycopg2.connect(dsn)
        with stranger.cursor() as cursor:
            cursor.execute(
                "select name, setting from pg_settings where name in ('default_transaction_read_only', "
                "'transaction_read_only', 'lock_timeout', 'statement_timeout', 'enable_seqscan', 'jit') "
                "and setting <> reset_val"
            )
            assert cursor.fetchall() == []
            cursor.execute("create temporary table mine ()")
        stranger.close()
