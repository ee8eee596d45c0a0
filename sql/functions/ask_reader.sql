-- relay.ask_reader(reader text, secret text, query text, was record) -> boolean
-- What a table's reader says (relay.make_reader). It runs code of the table's owner, as that owner, in somebody else's
-- statement: so in the box of relay.compute, by a role that can do nothing, read-only, rolled back. false if it fails.
create or replace function relay.ask_reader(reader text, secret text, query text, was record) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    taken boolean;
begin
    perform pg_catalog.set_config('transaction_read_only', 'on', true);
    execute pg_catalog.format('select relay_readers.%I($1, $2, $3)', reader) into taken using secret, query, was;
    raise exception using errcode = 'RELAY';  -- rolls back
exception when others or assert_failure then
    return coalesce(taken, false);  -- the owner has changed, a column of the condition was renamed, the key's dropped
end $$;
