-- relay.read_options(argument text) -> jsonb, relay.read_numbers(argument text) -> smallint[]
-- Arguments of row_event, for relay.watches: null if a trigger made by hand has something else there, which must not
-- keep anybody from reading about the other tables.
create or replace function relay.read_options(argument text) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    options jsonb;
begin
    options := argument;
    return case when jsonb_typeof(options) = 'object'
        and coalesce(jsonb_typeof(options -> 'columns'), 'array') = 'array'
        and coalesce(jsonb_typeof(options -> 'ignore'), 'array') = 'array' then options end;
exception when others then
    return null;
end $$;

create or replace function relay.read_numbers(argument text) returns smallint[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    numbers smallint[];
begin
    if octet_length(argument) < 20000 then  -- a table has 1600 columns
        numbers := argument;
    end if;
    return numbers;
exception when others then
    return null;
end $$;
