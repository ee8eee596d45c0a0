-- relay.unwatch(tbl regclass) -> boolean
-- Removes what relay.watch installed on a table. Events already in the outbox stay. false: it was not watched.
--     select relay.unwatch('public.orders');
create or replace function relay.unwatch(tbl regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    names constant text[] := array(select tgname from pg_trigger
        where tgrelid = tbl and tgname like E'!relay\\_%' and tgparentid = 0);
begin
    perform relay.drop_reader((select reader from relay.wanted where wanted.tbl = unwatch.tbl));
    update relay.wanted set triggers = '{}' where wanted.tbl = unwatch.tbl;  -- relay.forget
    if names = '{}' then
        return found;
    end if;
    perform relay.lock_table(tbl, 'access exclusive');
    perform relay.drop_triggers(tbl, names);
    perform relay.let_read(tbl, '{}', null);
    return true;
end $$;

-- relay.forget() trigger: deletes a row of relay.wanted that wants nothing any more. Its owner may not DELETE: see grants.sql.
create or replace function relay.forget() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from relay.wanted where wanted.tbl = old.tbl;
    return null;
end $$;

-- relay.own_reader() trigger: a row of relay.wanted names no reader that is another's, nor the array type of one: of a dropped
-- table the reader says whose it was (relay.watched). Whether there is such a type is known whatever the snapshot shows.
create or replace function relay.own_reader() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    type constant oid := to_regtype(format('relay_readers.%I', new.reader));
begin
    if type is not null and (select typowner from pg_type where oid = type)
            is distinct from (select relowner from pg_class where oid = new.tbl) then
        raise exception 'relay: % is another''s reader', new.reader using errcode = 'check_violation';
    end if;
    return null;
end $$;

-- relay.owns(tbl regclass) -> boolean
-- Whether the caller owns a table, or its owner's rights are the caller's: for the policy of relay.wanted. VOLATILE, so that
-- it sees who owns it now: a statement that began while the caller did, and meets a row that was changed since, has the
-- policy looked at again for the new row, but with its old snapshot.
create or replace function relay.owns(tbl regclass) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_has_role((select relowner from pg_class where oid = tbl), 'USAGE');
end $$;
