-- relay.key_of(image json, names text[], numbers smallint[], tbl oid) -> text
-- The key of a row as JSON, {"a":1,"b":"x"}, from its image: for row_event, where the short way does not do, a key of
-- several columns, or a column that is not found under the name it had at relay.watch. Then its number finds it, and in
-- the key it keeps its old name, so that the order of a row's events outlives a RENAME COLUMN. A dropped column is null.
--   image           must hold no escape \u: some of them can't be read (relay.compute does without)
--   names, numbers  the key's columns; the numbers are those of tbl, or of the partitioned table above it
create or replace function relay.key_of(image json, names text[], numbers smallint[], tbl oid) returns text
language plpgsql stable
as $$
declare
    result text := '{';
begin
    for i in 1..pg_catalog.cardinality(names) loop
        -- One expression: each is prepared anew in each transaction.
        result := pg_catalog.concat(result, case when i operator(pg_catalog.>) 1 then ',' end, pg_catalog.to_json(names[i]), ':',
            coalesce((image operator(pg_catalog.->) names[i])::text,
                     (image operator(pg_catalog.->) relay.column_now(relay.root_of(tbl), numbers[i]))::text, 'null'));
    end loop;
    return pg_catalog.concat(result, '}');
end $$;
