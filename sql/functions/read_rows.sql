-- Reading the rows of a watched table, for relay.resend_chunk and relay.resend_row: as relay_trigger, to whom relay.watch
-- has granted SELECT and UPDATE (a row that is locked FOR SHARE needs it, and the lock on the table). No code
-- of a user runs as relay_trigger: conditions, and the images of types that are not PostgreSQL's own, are made in the box
-- of relay.compute, and policies are passed by (or are an error: then the role may not pass them by).

-- relay.key_text(tbl regclass, names text[], columns text[]) -> text
-- The expression of the key of a row t as JSON, as events have it; its columns have PostgreSQL's own types.
--   names    the key's columns in events
--   columns  the same in the table
create or replace function relay.key_text(tbl regclass, names text[], columns text[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('''{'' || array_to_string(array[%s], '','') || ''}''', string_agg(
        format('%L || coalesce(to_json(t.%I)::text, ''null'')', concat(to_json(k.name), ':'), k.col), ', ' order by k.n))
    from unnest(names, columns) with ordinality k (name, col, n)
$$;

-- relay.place_text(tbl regclass, names text[], columns text[]) -> text
-- The same as JSON from which it is read back: where to go on after a row. Who owns a column's type may have a cast to JSON
-- that says another key each time, and an array's JSON does not say where it begins: nobody would come to the end of the
-- table. So of these it has the text that the type's input function reads.
create or replace function relay.place_text(tbl regclass, names text[], columns text[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('''{'' || array_to_string(array[%s], '','') || ''}''', string_agg(format('%L || coalesce(to_json(%s)::text, ''null'')',
        concat(to_json(k.name), ':'), case when a.atttypid < 16384 and y.typcategory <> 'A' then format('t.%I', k.col)
                                           else relay.as_text(format('t.%I', k.col)) || ' end' end), ', ' order by k.n))
    from unnest(names, columns) with ordinality k (name, col, n)
    join pg_attribute a on a.attrelid = tbl and a.attname = k.col
    join pg_type y on y.oid = a.atttypid
$$;

-- relay.bound(rows anyarray, r anyelement) -> r
-- Whoever may rename a schema, its tables' owner too, has another table, or a view, read in place of the one that a query
-- names, and its functions run by whoever has the query planned. Where this is called with a row, the query is none, for the
-- parser, if that has not the type of the elements of "rows": which has no name, since it is that of a parameter.
create or replace function relay.bound(rows anyarray, r anyelement) returns anyelement
language sql immutable
as $$ select r $$;

-- relay.alike(a anyelement, b anyelement) -> boolean: no query, where they are not of one type.
create or replace function relay.alike(a anyelement, b anyelement) returns boolean
language sql immutable
as $$ select true $$;

-- relay.compare_bound(tbl regclass, columns text[], type oid, strategy int, here text, there text) -> text
-- relay.compare of a key's column. Where somebody may give the name of its type, or of its operator, to another, as records,
-- whose operators nobody finds by a name of a user's; and what is read as that type must be of the column's.
create or replace function relay.compare_bound(
    tbl regclass, columns text[], type oid, strategy int, here text, there text
) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case when relay.base_type(type) < 16384 or relay.renamers(tbl, relay.column_numbers(tbl, columns), false) = '{}'
        then relay.compare(type, strategy, here, there)
        else format('(row(%1$s)::record operator(pg_catalog.%2$s) row(coalesce(%3$s, %1$s))::record and (true or relay.alike(%1$s, %3$s)))',
                    here, case strategy when 3 then '=' else '>' end, there) end
$$;

-- relay.key_after(tbl regclass, names text[], columns text[], parameter text) -> text
-- The condition that the key of t is greater than the one that is the parameter, as JSON. As one row comparison, which an
-- index understands, if its types are PostgreSQL's own; otherwise column by column.
create or replace function relay.key_after(tbl regclass, names text[], columns text[], parameter text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with c as (
        select k.n, a.atttypid as type, relay.base_type(a.atttypid) < 16384 as own, format('t.%I', k.col) as here,
            relay.key_part(k.name, a.atttypid, parameter) as there,
            format('(t.%I)::%s', k.col, relay.type_name(relay.base_type(a.atttypid))) as here_based
        from unnest(names, columns) with ordinality k (name, col, n)
        join pg_attribute a on a.attrelid = tbl and a.attname = k.col
    )
    select case when bool_and(own)
        then format('(%s) > (%s)', string_agg(here_based, ', ' order by n), string_agg(there, ', ' order by n))
        else '(' || string_agg(concat_ws(' and ',
            (select string_agg(relay.compare_bound(tbl, columns, b.type, 3, b.here, b.there), ' and ') from c b where b.n < c.n),
            relay.compare_bound(tbl, columns, c.type, 5, c.here, c.there)), ' or ') || ')' end
    from c
$$;

-- relay.key_same(tbl regclass, names text[], columns text[], parameter text) -> text: the same for "equal".
create or replace function relay.key_same(tbl regclass, names text[], columns text[], parameter text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(relay.compare_bound(tbl, columns, a.atttypid, 3, format('t.%I', k.col),
                                          relay.key_part(k.name, a.atttypid, parameter)), ' and ')
    from unnest(names, columns) with ordinality k (name, col, n)
    join pg_attribute a on a.attrelid = tbl and a.attname = k.col
$$;

-- relay.rows_of(tbl regclass) -> text
-- A watched table behind FROM, as t: its own rows, of a partitioned one all. With a WHERE, by which t is no other table.
create or replace function relay.rows_of(tbl regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('%s%s t where (true or relay.bound($1, t.*) is null)', case when relkind <> 'p' then 'only ' end, tbl)
    from pg_class where oid = tbl
$$;

-- relay.read_bound(rows anyarray, query text, tbl regclass, ...) -> record
-- What a query reads in which relay.bound has $1: it reads the table, or is none. $2 and on are the further arguments.
--   rows  null, of the array type of the table's rows: by a name, so that it is looked at here
create or replace function relay.read_bound(
    rows anyarray, query text, tbl regclass, first json, last json, names text[], numbers smallint[], options json,
    condition text, chosen text, told json, most int, asked json[]
) returns record
language plpgsql  -- with the reader's settings
as $$
declare
    found record;
begin
    if not exists (select from pg_class c join pg_type t on t.oid = c.reltype
                   where c.oid = tbl and t.typarray = pg_typeof(rows)::oid) then
        raise exception 'relay: % has another name now', tbl using errcode = 'lock_not_available';
    end if;
    execute query into found
        using rows, first, last, names, numbers, tbl::oid, options, condition, chosen, told, most, asked;
    return found;
end $$;

-- relay.lock_plain(tbl regclass, columns text[]) -> void
-- An error if somebody could have another table read in its place, who may not read all that relay_trigger reads; or if
-- planning a query on the table, or running it, could run code of its owner, as whoever does that: a function of constants in
-- an index, in statistics or in a partition key, of the table or of one below it; a foreign table. The lock keeps away those
-- who would add one (writers are not held up), and keeps the columns what they are: see row_event.sql.
create or replace function relay.lock_plain(tbl regclass, columns text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found text;
begin
    if current_setting('transaction_isolation') not like 'read %' then
        raise exception 'relay: rows are resent in READ COMMITTED only' using errcode = 'invalid_transaction_state';
    end if;
    select string_agg(distinct r.role::regrole::text, ', ') into found
        from unnest(relay.renamers(tbl, relay.column_numbers(tbl, columns), false)) r (role)
        where exists (select from pg_class c, aclexplode(c.relacl) a
                      where a.grantee = 'relay_trigger'::regrole and not relay.is_as_owner(r.role, c.relowner))
            or exists (select from pg_attribute a join pg_type t on t.oid = a.atttypid
                       where a.attrelid = tbl and a.attname = any (columns) and t.typtype = 'd' and relay.base_type(t.oid) >= 16384);
    if found is not null then
        raise exception 'relay: the rows of % cannot be resent: % may rename its schema, or what its key names', tbl, found
            using errcode = 'object_not_in_prerequisite_state',
                detail = 'Other tables than theirs are watched, and something of theirs could be read in its place with the same rights.',
                hint = format('Revoke the right to create schemas from them: revoke create on database %I from ...; or, of a type: '
                              'revoke create on schema ... from ...; or give it to another: alter type ... owner to ...;',
                              current_database());
    end if;
    execute format('lock table %s in share update exclusive mode', tbl);
    -- If it was renamed while this waited, something else has its name now, and was locked.
    if not exists (select from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and relation = tbl
                   and mode = 'ShareUpdateExclusiveLock' and granted) then
        raise exception 'relay: % has another name now', tbl using errcode = 'lock_not_available';
    end if;
    -- A view (with a trigger made by hand) runs its functions as who reads it; what a foreign table brings is read by input
    -- functions, that is with the checks of domains.
    select format('%s is a %s', c.oid::regclass, case c.relkind when 'f' then 'foreign table' else 'view' end) into found
        from pg_class c
        where c.relkind not in ('r', 'p') and (c.oid = tbl or c.oid in (select relid from pg_partition_tree(tbl))) limit 1;
    if found is not null then
        raise exception 'relay: the rows of % cannot be resent: %', tbl, found
            using errcode = 'object_not_in_prerequisite_state', hint = 'Resend the rows where they are.';
    end if;
    with recursive tree (oid) as (
        select tbl::oid union select i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid
    ), planned (class, oid) as (
        select 'pg_class'::regclass, i.indexrelid from pg_index i join tree t on i.indrelid = t.oid
        union all select 'pg_statistic_ext'::regclass, s.oid from pg_statistic_ext s join tree t on s.stxrelid = t.oid
        union all select 'pg_class'::regclass, t.oid from tree t
    ), used (function, type) as (
        select case d.refclassid when 'pg_proc'::regclass then d.refobjid
                                 when 'pg_operator'::regclass then (select oprcode from pg_operator where oid = d.refobjid) end,
               case when d.refclassid = 'pg_type'::regclass and p.oid not in (select oid from tree) then d.refobjid end
        from planned p join pg_depend d on d.classid = p.class and d.objid = p.oid
    )
    select string_agg(distinct coalesce('function ' || f.oid::regprocedure::text, 'type ' || u.type::regtype::text), ', ')
        into found from used u left join pg_proc f on f.oid = u.function
        where not (select rolsuper from pg_roles r where r.oid = f.proowner) or not relay.is_plain(u.type);
    if found is not null then
        raise exception 'relay: the rows of % cannot be resent: an index, statistics or a partition key uses %', tbl, found
            using errcode = 'object_not_in_prerequisite_state',
                detail = 'Planning a query could run that code with the rights of relay_trigger.',
                hint = 'Give the function to a superuser who trusts it: alter function ... owner to ...;';
    end if;
end $$;

-- relay.keys_after(tbl regclass, names text[], columns text[], after json, most int) -> text[]
-- The keys of the rows behind "after" (null: from the beginning), as many as "most", in order; more, if several rows share
-- the last one; as relay.place_text has them. Rows whose key is null are left out.
create or replace function relay.keys_after(tbl regclass, names text[], columns text[], after json, most int) returns text[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set constraint_exclusion = off
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    in_order constant text := (select string_agg(format('t.%I', c), ', ' order by n) from unnest(columns) with ordinality u (c, n));
    keys text[];
begin
    perform relay.lock_plain(tbl, columns);
    execute format('select r.keys from relay.read_bound(null::%s[], $1, $2, $3, null, null, null, null, null, null, null, $4, null) '
                   'r (keys text[])', tbl)
        into keys using format(
            'select array_agg(k.key order by k.n) from (select %s as key, row_number() over (order by %2$s) as n '
            'from %s and %s and num_nulls(%2$s) = 0 order by %2$s fetch first $11 rows with ties) k',
            relay.place_text(tbl, names, columns), in_order, relay.rows_of(tbl),
            case when after is null then 'true' else relay.key_after(tbl, names, columns, '$2') end), tbl, after, most;
    return keys;
end $$;

-- relay.read_rows(tbl regclass, names text[], columns text[], options json, condition text, chosen text, wait boolean,
--                 after json, last json, out keys text[], out places text[], out images text[], out passes boolean[], out problem text)
-- Locks rows FOR SHARE until the transaction ends, and reads them: those whose key is greater than "after" (null: from the
-- beginning) and not greater than "last"; if "wait", those with the key "last", waiting for the locks of others, which are
-- skipped otherwise. If "last" is null none: "problem" says whether "chosen" is a condition at all, on a row of nulls.
--   options    columns or ignore, as in relay.pick
--   condition  the watch's, and "chosen" that of who resends, as in relay.compute; "passes" says which rows meet them, "problem"
--              what they raised ("<SQLSTATE> <message>")
--   keys       as events have them; "places" as relay.place_text has them
--   images     null: too large to be written as JSON
drop function if exists relay.read_rows(regclass, text[], text[], json, text, text, json, json, boolean) cascade;  -- of version 3 before its release
create or replace function relay.read_rows(
    tbl regclass, names text[], columns text[], options json, condition text, chosen text, wait boolean,
    after json, last json, out keys text[], out places text[], out images text[], out passes boolean[], out problem text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set constraint_exclusion = off
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    numbers constant smallint[] := relay.column_numbers(tbl, columns);
    in_order constant text := (select string_agg(format('t.%I', c), ', ' order by n) from unnest(columns) with ordinality u (c, n));
    place constant text := relay.place_text(tbl, names, columns);
    rows text;
begin
    perform relay.lock_plain(tbl, columns);
    rows := case when wait then format('from %s and %s for share of t', relay.rows_of(tbl), relay.key_same(tbl, names, columns, '$3'))
        else format('from %s and %s and not (%s) and num_nulls(%4$s) = 0 order by %4$s for share of t skip locked',
            relay.rows_of(tbl), case when after is null then 'true' else relay.key_after(tbl, names, columns, '$2') end,
            relay.key_after(tbl, names, columns, '$3'), in_order) end;
    execute format('select r.* from relay.read_bound(null::%s[], $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, null, null) '
                   'r (keys text[], places text[], images text[], passes boolean[], problem text)', tbl)
        into keys, places, images, passes, problem using case
            when last is null and not wait then
                'select null::text[], null::text[], null::text[], null::boolean[], c.problem '
                'from relay.compute(null, ($1)[1], $4, $5, $6, $7, null, $9, $10) c'
            when relay.is_read_plainly(tbl, options, coalesce(condition, chosen)) then format(
                'select array_agg(r.key), array_agg(r.place), array_agg(r.image), array_agg(true), null::text '
                'from (select %s as key, %s as place, %s %s) r', relay.key_text(tbl, names, columns), place, relay.image_text(), rows)
            else format(
                'select array_agg(c.new_key), array_agg(x.place), array_agg(c.new_image::text), array_agg(coalesce(c.passes, true)), '
                'min(c.problem) from (select relay.bound($1, t.*) as whole, %s as place %s) x '
                'cross join lateral relay.compute(null, x.whole, $4, $5, $6, $7, $8, $9, $10) c', place, rows)
            end, tbl, after, last, names, numbers, options, condition, chosen, relay.told(tbl, '($1).%I');
end $$;

-- relay.read_present(tbl regclass, names text[], columns text[], options json, condition text, asked json[],
--                    out nth int[], out images text[], out passes boolean[], out problem text)
-- For relay.present_rows: the rows with these keys, as they are; none is locked. The rest as relay.read_rows.
create or replace function relay.read_present(
    tbl regclass, names text[], columns text[], options json, condition text, asked json[],
    out nth int[], out images text[], out passes boolean[], out problem text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set constraint_exclusion = off
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    numbers constant smallint[] := relay.column_numbers(tbl, columns);
    -- One after another: a plan that reads the table once for all of them would read all of it.
    source constant text := 'from unnest($12) with ordinality q (asked, nth) cross join lateral (select %s from %s and %s offset 0) r';
    rows constant text := relay.rows_of(tbl);
    condition_of_key constant text := relay.key_same(tbl, names, columns, 'q.asked');
begin
    perform relay.lock_plain(tbl, columns);
    execute format('select r.* from relay.read_bound(null::%s[], $1, $2, null, null, $3, $4, $5, $6, null, $7, null, $8) '
                   'r (nth int[], images text[], passes boolean[], problem text)', tbl)
        into nth, images, passes, problem using case
            when relay.is_read_plainly(tbl, options, condition) then
                'select array_agg(q.nth::int), array_agg(r.image), array_agg(true), null::text '
                || format(source, relay.image_text(), rows, condition_of_key)
            else 'select array_agg(q.nth::int), array_agg(c.new_image::text), array_agg(coalesce(c.passes, true)), min(c.problem) '
                || format(source, 'relay.bound($1, t.*) as whole', rows, condition_of_key)
                || ' cross join lateral relay.compute(null, r.whole, $4, $5, $6, $7, $8, null, $10) c'
            end, tbl, names, numbers, options, condition, relay.told(tbl, '($1).%I'), asked;
end $$;

-- relay.is_read_plainly(tbl regclass, options json, condition text) -> boolean
-- Whether all of a row is to be read, and nothing of a user's is in it.
create or replace function relay.is_read_plainly(tbl regclass, options json, condition text) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select condition is null and options -> 'columns' is null and options -> 'ignore' is null
        and current_setting('transaction_isolation') like 'read %'
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tbl
                        and d.refclassid = 'pg_type'::regclass)
$$;

-- relay.image_text() -> text: the expression of the image of a row t; of a large one relay.compute's.
drop function if exists relay.image_text(text);  -- of version 3 before its release
create or replace function relay.image_text() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select 'case when pg_column_size(t.*) <= 262144 then row_to_json(t.*)::text '
           'else (relay.compute(null, t.*, $4, $5, $6, $7, null, null, null)).new_image::text end as image'
$$;
