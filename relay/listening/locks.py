"""Who has a lock in PostgreSQL: what the statements that ask for it share.

A prepared transaction has no session, and outlives restarts; its lock on itself tells which it is.
"""

FROM = """pg_locks l left join pg_stat_activity a using (pid)
left join (pg_locks t join pg_prepared_xacts p on p.transaction = t.transactionid)
  on l.pid is null and t.pid is null and t.virtualtransaction = l.virtualtransaction"""
OTHERS = """(l.pid <> pg_backend_pid() or p.gid is not null)
  and l.database = (select oid from pg_database where datname = current_database())"""
"""Not ours, and in our database: in a copy of it, made with `template`, its tables have the same numbers."""
WHO = """case when l.pid is null
    then pg_catalog.concat('the prepared transaction ', pg_catalog.quote_literal(p.gid), ' of ', p.owner)
    else pg_catalog.concat('pid ', l.pid, ' (', concat_ws(', ', a.usename, nullif(a.application_name, '')), ')') end"""
ROLLBACK = "case when l.pid is null then pg_catalog.concat('rollback prepared ', pg_catalog.quote_literal(p.gid), ';')"
"""The beginning of an expression: what ends a prepared transaction."""
ENDS = f"{ROLLBACK} else pg_catalog.concat('select pg_terminate_backend(', l.pid, ');') end"
