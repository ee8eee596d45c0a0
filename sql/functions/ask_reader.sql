-- relay.ask_reader(reader text, secret text, query text, columns text[], was record) -> boolean
-- Whether a table has a row with a key that meets the watch's condition: its reader (relay.make_reader) fetches the rows with
-- that key, as the table's owner, by a query that runs nothing of a user's, and the condition is looked at here, where no right is to be
-- had. All of it in the box of relay.compute, by a role that can do nothing, read-only, rolled back. false if it fails; but for want of
-- stack, memory, locks, a readable file or a serializable snapshot, the statement fails.
--   query    for the reader
--   columns  of the key in "was"; the query gets them as a JSON object of texts
-- No lock is waited for until PostgreSQL looks for deadlocks: a lock on another partition would be one's own wait, too.
create or replace function relay.ask_reader(reader text, secret text, query text, columns text[], was record) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '20ms'
set standard_conforming_strings = on  -- conditions are written so: relay.definition_of
set array_nulls = on
set constraint_exclusion = off  -- the planner would run functions of constants in checks
set debug_print_plan = off  -- the server's log would have the secret
set client_min_messages = notice  -- the writer would be told it by auto_explain, where it logs parameters
as $$
declare
    taken boolean := false;
    answer record;
    fetched record;
begin
    if current_user <> 'relay_compute' then
        return false;  -- restored without its owners
    end if;
    perform pg_catalog.set_config('transaction_read_only', 'on', true);
    -- The key by output functions, not casts: those of a user would run.
    execute pg_catalog.format('select relay_readers.%1$I(pg_catalog.json_build_object(''secret'', $3, ''query'', $4, '
                              '''key'', pg_catalog.json_object($2, array[%2$s]))::relay_readers.%1$I) as rows', reader, (
        select pg_catalog.string_agg(pg_catalog.format('case when pg_catalog.num_nulls(($1).%1$I) = 0 '
                                                       'then pg_catalog.format(''%%s'', ($1).%1$I) end', c.name), ', ' order by c.n)
        from pg_catalog.unnest(columns) with ordinality c (name, n))) into answer using was, columns, secret, query;
    fetched := answer.rows;
    if fetched.filter is null then
        taken := pg_catalog.cardinality(fetched.rows) > 0;  -- numbers, or it fails: an expression is of one type
    else
        execute pg_catalog.format('select exists (select from pg_catalog.unnest($1) t where %s)', fetched.filter)
            into taken using fetched.rows;
    end if;
    raise exception using errcode = 'RELAY';  -- rolls back
exception when others or assert_failure then
    if sqlstate in ('54001', '40001', 'XX001', 'XX002') or pg_catalog.left(sqlstate, 2) in ('53', '58') then
        raise;  -- no stack, memory, lock or readable file, or no serializable answer: a row that is there would be told as deleted
    end if;
    return taken;  -- the owner has changed, a column of the condition was renamed, the key's dropped
end $$;
