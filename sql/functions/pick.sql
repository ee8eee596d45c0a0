-- relay.pick(r json, options json, tbl oid) -> json
-- The row without the columns that relay.watch(columns => ..., ignore => ...) leaves out. The text of the values
-- stays as it is.
--   r        must hold no escape \u: some of them can't be read (relay.compute does without)
--   options  {"columns": ["a", "b"], "columns_at": [1, 2]} or {"ignore": [...], "ignore_at": [...]}; the numbers find
--            a column again that was renamed since, otherwise the renamed password column would be published.
create or replace function relay.pick(r json, options json, tbl oid) returns json
language plpgsql stable
as $$
declare
    keep constant boolean := options -> 'columns' is not null;
    names text[] := array(select json_array_elements_text(coalesce(options -> 'columns', options -> 'ignore')));
    seen int;
    picked text;
begin
    if r is null or names = '{}' then
        return r;
    end if;
    for attempt in 1..2 loop
        select concat('{', string_agg(concat(to_json(e.key), ':', e.value), ',')
                               filter (where (e.key = any (names)) = keep), '}'),
               count(*) filter (where e.key = any (names))
            into picked, seen from json_each(r) e;
        exit when seen = cardinality(names);
        -- A column was renamed or dropped after relay.watch: look for it by its number.
        names := array(
            select c from json_array_elements_text(coalesce(options -> 'columns_at', options -> 'ignore_at')) n,
                relay.column_now(relay.root_of(tbl), n::smallint) c
            where c is not null);
    end loop;
    return picked;
end $$;
