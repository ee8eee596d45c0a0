-- relay.resend_query(tbl regclass, "where" text) -> record
-- The parts of the queries of relay.resend_chunk and relay.resend_row, from the watch of the table; an error if it is
-- not watched, or if the caller may not read it. In them $1 is the key's column names, $2 their numbers, $3 (same) or
-- $4 (after) a key as JSON, $5 the options of relay.watch.
create or replace function relay.resend_query(
    tbl regclass, "where" text, out names text[], out numbers smallint[], out options json, out source text,
    out key text, out key_columns text, out image text, out condition text, out after text, out same text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    kind "char";
    columns text[];
    typed constant text := format('(select k.%%I from json_populate_record(null::%s, %%s) k)', tbl);
begin
    select * into w from relay.watches where watches.tbl = resend_query.tbl;
    select relkind into kind from pg_class where oid = tbl;
    columns := array(select relay.column_now(tbl, n) from unnest(w.numbers) n);
    if w.topic is null then
        raise exception 'relay: % is not watched, so there is no topic to send its rows to', tbl
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('As its owner: select relay.watch(%L);', tbl);
    elsif columns <> w.key then
        raise exception 'relay: the key of % was % when relay.watch was called, and is % now', tbl, w.key, columns
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('As its owner: select relay.watch(%L, ...) once more.', tbl);
    end if;
    perform relay.may_resend(tbl, columns);

    names := w.key;
    numbers := w.numbers;
    options := w.options;
    source := case when kind = 'p' then '' else 'only ' end || format('%s t', tbl);
    key_columns := (select string_agg(format('t.%I', c), ', ' order by n) from unnest(columns) with ordinality u (c, n));
    key := format('relay.key_of((select row_to_json(k.*) from (select %s) k), null, $1, $2, %s)', key_columns, tbl::oid);
    image := format('relay.pick(case when pg_column_size(t.*) between 0 and 262144 then row_to_json(t.*) '
                    'else relay.big_row(t.*) end, $5, %s)', tbl::oid);
    condition := format('(%s) and (%s)', coalesce(w.options ->> 'filter', 'true'), coalesce("where", 'true'));
    same := (select string_agg(format('t.%1$I operator(%2$s) %3$s', c.name, relay.operator_of(a.atttypid, 3),
                                      format(typed, c.name, '$3')), ' and ')
             from unnest(columns) c (name) join pg_attribute a on a.attrelid = tbl and a.attname = c.name);
    after := relay.resend_after(tbl, columns, typed);
end $$;

-- relay.resend_after(tbl regclass, columns text[], typed text) -> text
-- The condition "the key is greater than $4". As one row comparison, which an index understands; if types of
-- extensions are in the key, column by column, since each has a > of its own then.
create or replace function relay.resend_after(tbl regclass, columns text[], typed text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with c as (
        select u.name, u.n, format('t.%I', u.name) as here, format(typed, u.name, '$4') as there,
            relay.operator_of(a.atttypid, 3) as same, relay.operator_of(a.atttypid, 5) as greater
        from unnest(columns) with ordinality u (name, n)
        join pg_attribute a on a.attrelid = tbl and a.attname = u.name
    )
    select case when bool_and(c.greater = 'pg_catalog.>')
        then format('(%s) > (%s)', string_agg(c.here, ', ' order by c.n), string_agg(c.there, ', ' order by c.n))
        else '(' || string_agg(concat_ws(' and ',
            (select string_agg(format('%s operator(%s) %s', b.here, b.same, b.there), ' and ') from c b where b.n < c.n),
            format('%s operator(%s) %s', c.here, c.greater, c.there)), ' or ') || ')' end
    from c
$$;

-- relay.may_resend(tbl regclass, columns text[]) -> void
-- An error with the grants that are missing, if the caller may not read and lock the rows of a table.
create or replace function relay.may_resend(tbl regclass, columns text[]) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    schema constant regnamespace := (select relnamespace from pg_class where oid = tbl);
begin
    if not (has_schema_privilege(schema, 'USAGE') and has_table_privilege(tbl, 'SELECT')
            and has_any_column_privilege(tbl, 'UPDATE')) then
        raise exception 'relay: % may not read and lock the rows of %', current_user, tbl
            using errcode = 'insufficient_privilege', detail = 'A row that is locked for copying needs a right to UPDATE.',
                hint = format('As its owner: grant usage on schema %s to %I; grant select, update (%I) on %s to %I;',
                    schema, current_user, columns[1], tbl, current_user);
    end if;
end $$;
