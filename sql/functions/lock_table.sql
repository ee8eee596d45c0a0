-- relay.check_name(tbl regclass, was_meant boolean) -> void
-- An error if a statement that named a table has not done with that table what it should: whoever may rename its schema had
-- another one meant. What it has done there is undone.
create or replace function relay.check_name(tbl regclass, was_meant boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if was_meant is not true then
        raise exception 'relay: % had another name a moment ago', tbl
            using errcode = 'object_in_use', detail = 'Nothing has been changed.', hint = 'Call it again; who renames schemas?';
    end if;
end $$;

-- relay.lock_table(tbl regclass, mode text) -> void
-- Takes a lock without queueing the application behind it: whoever waits for a lock makes all later ones wait, so it
-- waits 100 ms at a time, lets the others through, and tries again for about 10 s. Then an error names the holders.
create or replace function relay.lock_table(tbl regclass, mode text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    usual constant text := current_setting('lock_timeout');
    give_up constant timestamptz := clock_timestamp() + interval '10 s';
    holders text;
    ends text;  -- of the prepared transactions among them: they have no session, and outlive restarts
begin
    while clock_timestamp() < give_up loop
        begin
            perform set_config('lock_timeout', '100ms', true);
            execute format('lock table %s in %s mode', tbl, mode);
            perform set_config('lock_timeout', usual, true);
            perform relay.check_name(tbl, exists (
                select from pg_locks l where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.relation = tbl
                and l.mode = replace(initcap(lock_table.mode), ' ', '') || 'Lock' and l.granted));
            return;
        exception when lock_not_available then
            perform pg_sleep(0.05 + random() * 0.2);
        end;
    end loop;
    select concat_ws(', ', 'pid ' || string_agg(distinct l.pid::text, ', '),
                     string_agg(distinct format('the prepared transaction %L of %s', p.gid, p.owner), ', ') filter (where p.gid is not null)),
           concat_ws('; ', 'what they are doing: select pid, state, xact_start, query from pg_stat_activity where pid in ('
                     || string_agg(distinct l.pid::text, ', ') || ')',
                     string_agg(distinct format('rollback prepared %L', p.gid), '; ') filter (where p.gid is not null))
        into holders, ends
        from pg_locks l
        left join (pg_locks t join pg_prepared_xacts p on p.transaction = t.transactionid)
            on l.pid is null and t.pid is null and t.virtualtransaction = l.virtualtransaction
        where l.relation in (select relid from pg_partition_tree(tbl) union select tbl) and l.granted
          and l.locktype = 'relation' and l.pid is distinct from pg_backend_pid()
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
          and (lock_table.mode = 'access exclusive' or l.mode not in ('AccessShareLock', 'RowShareLock'));
    raise exception 'relay: could not lock % in 10 s, others are using it: %', tbl, coalesce(nullif(holders, ''), '?')
        using errcode = 'lock_not_available', detail = 'Nothing has been changed.',
            hint = concat_ws('; ', 'Call it again when their transactions have ended', nullif(ends, '')) || ';';
end $$;
