-- relay.unwatch(tbl regclass) -> boolean
-- Removes what relay.watch installed on a table. Events already in the outbox stay. false: it was not watched.
--     select relay.unwatch('public.orders');
create or replace function relay.unwatch(tbl regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    names constant text[] := array(select tgname from pg_trigger
        where tgrelid = tbl and tgname like '!relay\_%' and tgparentid = 0);
begin
    perform relay.drop_reader((select reader from relay.wanted where wanted.tbl = unwatch.tbl));
    delete from relay.wanted where wanted.tbl = unwatch.tbl;
    if names = '{}' then
        return found;
    end if;
    perform relay.lock_table(tbl, 'access exclusive');
    perform relay.drop_triggers(tbl, names);
    perform relay.let_read(tbl, '{}', null);
    return true;
end $$;
