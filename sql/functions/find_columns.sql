-- relay.find_columns(tbl regclass, columns text[], ignore text[]) -> jsonb
-- The part of row_event's options that says which columns are in the images (see relay.pick); {} = all. Virtual
-- generated columns are left out always: PostgreSQL does not compute them for triggers, they would be null.
create or replace function relay.find_columns(tbl regclass, columns text[], ignore text[]) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if columns is not null and ignore is not null then
        raise exception 'relay.watch: columns and ignore exclude each other'
            using errcode = 'invalid_parameter_value', hint = 'Give the columns you want, or those you do not want.';
    end if;
    perform relay.check_columns(tbl, 'columns', columns);
    perform relay.check_columns(tbl, 'ignore', ignore);
    if columns is not null then
        return jsonb_build_object('columns', columns, 'columns_at', relay.column_numbers(tbl, columns));
    end if;
    ignore := array(select unnest(ignore) union select attname from pg_attribute
                    where attrelid = tbl and attgenerated = 'v' and not attisdropped order by 1);
    if ignore = '{}' then
        return '{}';
    end if;
    return jsonb_build_object('ignore', ignore, 'ignore_at', relay.column_numbers(tbl, ignore));
end $$;
