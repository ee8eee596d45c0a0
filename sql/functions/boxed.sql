-- relay.boxed(r record) -> json
-- row_to_json in the box of relay.compute, and nothing else of it, for relay.boxed_event: PL/pgSQL compiles a function
-- with a record anew for each partition. null if it fails: relay.compute knows what to do; and if it is not the box, because
-- the schema was restored without its owners. Not where relay.has_strangers.
create or replace function relay.boxed(r record) returns json
language plpgsql strict security definer  -- with the other settings of the trigger
set search_path = pg_catalog, pg_temp
as $$
declare
    image json;
begin
    if current_user <> 'relay_compute' then
        return null;
    end if;
    -- One expression, and no PERFORM, which is a query: each is prepared anew in each transaction.
    image := case when pg_catalog.set_config('transaction_read_only', 'on', true) is not null then pg_catalog.row_to_json(r) end;
    raise sqlstate 'RELAY';  -- rolls back
exception when others or assert_failure then
    return image;
end $$;
