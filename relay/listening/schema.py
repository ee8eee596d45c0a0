"""How a session with PostgreSQL begins: what is set, and whether server and schema will do."""

import shlex
from typing import Any

from relay.errors import ConfigError, Unavailable
from relay.listening.postgres_errors import A_DATABASE, INSTALL

SCHEMA_VERSION = 3
"""The version of sql/ that this code was written for."""

# Whoever may create functions in a schema of the login's would have them run with its rights, and so would the owner of
# the database, who may set where every session in it looks first. Nothing may be called before this.
PATH = "set search_path = pg_catalog, pg_temp"

SESSION = """
select relay.version(), relay.sleep_key(), pg_is_in_recovery(), current_database(),
       current_setting('server_version_num')::int,
       set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
       set_config('jit', 'off', false), set_config('lock_timeout', '2s', false),
       set_config('plan_cache_mode', 'force_generic_plan', false)
"""
# The outbox is empty most of the time, so the planner believes it to be small; in a backlog, or with the dead
# rows that an old snapshot keeps, its choice of a sequential scan would read all of it each time.

# What a role or a database is given for its sessions must not end ours: the idle ones, or a DELETE that waits for TAKE.
STEADY = f"""
{PATH};
select set_config('default_transaction_isolation', 'read committed', false),
       (select count(set_config(s.name, case s.name when 'statement_timeout' then '60s' else '0' end, false))
        from pg_settings s where s.name in ('idle_session_timeout', 'statement_timeout', 'transaction_timeout'))
"""  # noqa: S608


def judge(row: tuple[Any, ...], server: str) -> tuple[int, str]:
    """Say from the answer to SESSION whether the listener can work there.

    Args:
        row: as fetched.
        server: where that is, for an error.

    Returns:
        The sleep lock's key and the database's name.

    Raises:
        ConfigError: the server's or the schema's version will not do.
        Unavailable: the server is a standby.
    """
    version, key, recovering, name, number, *_ = row
    if number < 130000:
        raise ConfigError((f"PostgreSQL {number // 10000} is too old", "the relay needs 13 or newer"))
    if recovering:
        raise Unavailable(f"PostgreSQL {server} is in recovery, a standby", "wait")
    if version < SCHEMA_VERSION:
        problem = f"schema relay is version {version}, this program needs {SCHEMA_VERSION}"
        raise ConfigError((problem, f"upgrade it: {INSTALL.replace(A_DATABASE, shlex.quote(name))}"))
    if version > SCHEMA_VERSION:
        problem = f"schema relay is version {version}, newer than this program knows ({SCHEMA_VERSION})"
        raise ConfigError((problem, "install the newer version of the relay"))
    return key, name
