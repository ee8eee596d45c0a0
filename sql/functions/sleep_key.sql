-- relay.sleep_key() -> bigint
-- The advisory lock that a listener holds while it sleeps ('relay' as a number). Whoever adds an event looks whether
-- it is held, and sends NOTIFY only then: NOTIFY in every transaction halves the commit rate of 16 writers.
--     select pg_try_advisory_lock(relay.sleep_key());
-- row_event, truncate_event and relay.wake have the constant inline: change it everywhere or nowhere.
create or replace function relay.sleep_key() returns bigint
language sql immutable parallel safe
as $$ select 491327873401 $$;

-- relay.notify_listener() -> void
-- The channel has a random name, which only relay_listener may read: any login may NOTIFY a channel whose name it knows,
-- and a flood of notifications costs the listener memory. None if a session that listens and idles in a transaction lets
-- PostgreSQL's queue of notifications fill up, which any login can: once it is full, whoever notifies can't commit. The
-- listener looks by itself now and then. Nor where it does not want any (NOTIFY=off), whoever holds the lock: a transaction
-- that notifies can't be prepared.
create or replace function relay.notify_listener() returns void
language sql
set trace_notify = off  -- it would tell the writer the channel
as $$
    select pg_catalog.pg_notify(l.channel, '') from relay.listener l
    where l.wakes and pg_catalog.pg_notification_queue_usage() < 0.5
$$;

-- relay.wake() -> void
-- Notifies the listener if it sleeps; the same expression as in the triggers. One expression, so that a statement
-- cancelled in between cannot leave the session lock behind.
create or replace function relay.wake() returns void
language plpgsql
as $$
begin
    if (case when pg_catalog.pg_try_advisory_lock_shared(491327873401)
             then not pg_catalog.pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
end $$;
