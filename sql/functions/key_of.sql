-- relay.key_of(image json, r record, names text[], numbers smallint[], tbl oid) -> text
-- The key of a row as JSON, {"a":1,"b":"x"}. For row_event, where the short way does not do: a key of several columns;
-- a row too large to be written as JSON (image is null: its key columns still can); a column that is not found under
-- the name it had at relay.watch. Then its number finds it, and in the key it keeps its old name, so that the order of
-- a row's events outlives a RENAME COLUMN. A dropped column is null.
--   names, numbers  the key's columns; the numbers are those of tbl, or of the partitioned table above it
create or replace function relay.key_of(image json, r record, names text[], numbers smallint[], tbl oid) returns text
language plpgsql stable
as $$
declare
    result text := '{';
    value json;
begin
    if image is null then
        image := relay.key_image(r, numbers, relay.root_of(tbl));
    end if;
    for i in 1..pg_catalog.cardinality(names) loop
        value := image operator(pg_catalog.->) names[i];
        if value is null then
            value := image operator(pg_catalog.->) relay.column_now(relay.root_of(tbl), numbers[i]);
        end if;
        result := pg_catalog.concat(result, case when i operator(pg_catalog.>) 1 then ',' end,
                                    pg_catalog.to_json(names[i]), ':', coalesce(value::text, 'null'));
    end loop;
    return pg_catalog.concat(result, '}');
end $$;

-- relay.key_image(r record, numbers smallint[], tbl oid) -> json: the columns with these numbers, as JSON.
create or replace function relay.key_image(r record, numbers smallint[], tbl oid) returns json
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    columns constant text := (
        select string_agg(format('($1).%1$I', a.attname), ', ')
        from pg_attribute a where a.attrelid = tbl and a.attnum = any (numbers) and not a.attisdropped);
    image json;
begin
    execute format('select row_to_json(k.*) from (select %s) k', columns) into image using r;
    return image;
end $$;
