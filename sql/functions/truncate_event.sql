-- relay.truncate_event() trigger: one event for a TRUNCATE, with the table as its key. Made by relay.watch; by hand:
--
--     create trigger "!relay_truncate" after truncate on public.orders for each statement
--         execute function relay.truncate_event('public.orders', 'public.orders');
--
-- Arguments: topic; the table's name in events.
create or replace function relay.truncate_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into relay.outbox (topic, tbl, op, key) values (tg_argv[0], tg_argv[1], 'truncate', tg_argv[1]);
    if (case when pg_try_advisory_lock_shared(491327873401)
             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
    return null;
end $$;
