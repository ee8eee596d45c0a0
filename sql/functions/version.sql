-- relay.version() -> int
-- The version of schema relay in this database.
--     select relay.version();
create or replace function relay.version() returns int
language sql immutable parallel safe
as $$ select 3 $$;
