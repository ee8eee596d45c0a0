-- relay.find_key(tbl regclass, key text[]) -> text[]
-- The columns that identify a row: those given, or the primary key; an error if there is neither.
create or replace function relay.find_key(tbl regclass, key text[]) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    bad text;
begin
    if key is null then
        select array_agg(a.attname::text order by k.n) into key
            from pg_index i
            cross join unnest(i.indkey::int2[]) with ordinality k (attnum, n)
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where i.indrelid = tbl and i.indisprimary and k.n <= i.indnkeyatts;
        if key is null then
            raise exception 'relay.watch: table % has no primary key', tbl
                using errcode = 'invalid_table_definition',
                    detail = 'The key says which events belong to one row and must keep their order.',
                    hint = format('Add one (alter table %1$s add primary key (...)), or name the columns that identify '
                        'a row: select relay.watch(%1$L, key => ''{...}'');', tbl);
        end if;
    elsif key = '{}' then
        raise exception 'relay.watch: key => ''{}'' names no column'
            using errcode = 'invalid_parameter_value', hint = 'Leave it out to use the primary key.';
    elsif cardinality(key) > 32 then  -- a function takes 100 arguments, of which two are a column's
        raise exception 'relay.watch: a key of % columns for %', cardinality(key), tbl
            using errcode = 'invalid_parameter_value', hint = 'It has 32 at most, as an index has.';
    end if;
    perform relay.check_columns(tbl, 'key', key);
    select a.attname || ' ' || format_type(a.atttypid, null) into bad
        from pg_attribute a where a.attrelid = tbl and a.attname = any (key) and relay.operator_of(a.atttypid, 3) is null;
    if bad is not null then
        raise exception 'relay.watch: column % of % cannot be part of a key', bad, tbl
            using errcode = 'invalid_parameter_value', hint = 'Its type has no equality. Choose other columns.';
    end if;
    return key;
end $$;

-- relay.check_columns(tbl regclass, argument text, names text[]) -> void
-- An error if one of the names is not a column of the table, is there twice, or is a virtual generated column (which
-- PostgreSQL does not compute for triggers).
create or replace function relay.check_columns(tbl regclass, argument text, names text[]) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    bad text;
    reason text;
begin
    select n, case when a.attname is null then 'is not a column of' when a.attgenerated = 'v'
                   then 'is a virtual generated column of' else 'is named twice for' end into bad, reason
        from unnest(names) n
        left join pg_attribute a on a.attrelid = tbl and a.attname = n and a.attnum > 0 and not a.attisdropped
        group by n, a.attname, a.attgenerated
        having a.attname is null or a.attgenerated = 'v' or count(*) > 1
        limit 1;
    if bad is not null then
        raise exception 'relay.watch: % => %: % % %', argument, quote_literal(names), quote_nullable(bad), reason, tbl
            using errcode = 'undefined_column',
                hint = 'Its columns: ' || (select string_agg(quote_ident(attname), ', ' order by attnum)
                    from pg_attribute where attrelid = tbl and attnum > 0 and not attisdropped
                    and attgenerated <> 'v');
    end if;
end $$;

-- relay.column_numbers(tbl regclass, names text[]) -> smallint[]: their numbers, in the same order.
create or replace function relay.column_numbers(tbl regclass, names text[]) returns smallint[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(a.attnum order by n.n), '{}')
    from unnest(names) with ordinality n (name, n)
    join pg_attribute a on a.attrelid = tbl and a.attname = n.name and not a.attisdropped
$$;
