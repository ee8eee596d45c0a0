-- relay.bulk_event() trigger: writes the events of a whole statement into the outbox, for relay.watch(bulk => true).
-- By hand:
--
--     create trigger "!relay_insert" after insert on public.orders referencing new table as relay_new
--         for each statement execute function
--         relay.bulk_event('public.orders', 'public.orders', 'insert', '{1}', '{}', 'id');
--
-- update: referencing old table as relay_old new table as relay_new; delete: old table as relay_old.
-- Arguments: those of row_event. The images before and after an update are paired by their key: a key that is gone is
-- a delete, a new one an insert, and after a swap of two keys there are two updates (row_event: two inserts).
-- Like row_event it makes no JSON itself where code of a user could run, or reading JSON again could fail.
create or replace function relay.bulk_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    xid constant xid8 := pg_current_xact_id();  -- before seq: see tables.sql
    was constant text := relay.bulk_images('relay_old', tg_relid, tg_argv[5:], tg_argv[3]::smallint[], tg_argv[4]::json);
    now constant text := relay.bulk_images('relay_new', tg_relid, tg_argv[5:], tg_argv[3]::smallint[], tg_argv[4]::json);
    written bigint;
begin
    -- Invariant: the two names are the trigger's own tables. A trigger made by hand without REFERENCING would read a
    -- temporary view of the session instead, whose functions run as relay_owner.
    if coalesce(to_regclass('pg_temp.relay_old'), to_regclass('pg_temp.relay_new')) is not null then
        raise exception 'relay: a temporary relation must not be named relay_old or relay_new'
            using errcode = 'reserved_name', hint = 'Drop it, or give it another name.';
    end if;
    execute format(
        'insert into relay.outbox (xid, at, topic, tbl, op, key, old_image, new_image, too_large) '
        'select $1, $2, $3, $4, e.op, concat($4, '' '', e.key), e.was::text, e.now::text, nullif(e.too_large, false) '
        'from (%s) e',
        case tg_argv[2]
            when 'insert' then format(
                'select key, ''insert'' as op, null::json as was, image as now, image is null as too_large from %s i', now)
            when 'delete' then format(
                'select key, ''delete'' as op, image as was, null::json as now, image is null as too_large from %s i', was)
            else format(
                'select coalesce(now.key, was.key) as key, '
                '  case when was.key is null then ''insert'' when now.key is null then ''delete'' else ''update'' end as op, '
                '  case when (was.key is null or was.image is not null) and (now.key is null or now.image is not null) '
                '       and (now.key is null or $5) then was.image end as was, '
                '  case when was.key is null or was.image is not null then now.image end as now, '
                '  was.key is not null and was.image is null or now.key is not null and now.image is null as too_large '
                'from %s was full join %s now on now.key = was.key '
                'where (was.image::text = now.image::text) is not true', was, now)
        end)
        using xid, clock_timestamp(), tg_argv[0], tg_argv[1], tg_argv[4]::json ->> 'old' is null, tg_argv[4]::json;
    get diagnostics written = row_count;
    if written > 0 and (case when pg_try_advisory_lock_shared(491327873401)
                             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
    return null;
end $$;

-- relay.bulk_images(rows text, tbl oid, names text[], numbers smallint[], options json) -> text
-- A subquery for bulk_event: key and image (json; null: too large) of each row of a transition table.
--   rows            the transition table's name
--   names, numbers  the key's columns, as in relay.key_of
--   options         the columns of the images, as in relay.pick; $6 in the subquery
-- The columns are written out: PostgreSQL reads them itself, and needs no function call a row for them. No type of a user
-- and no table is named: whoever owns its schema could give the name to another one between here and there, and casts of
-- its would run as relay_owner.
create or replace function relay.bulk_images(
    rows text, tbl oid, names text[], numbers smallint[], options json
) returns text
language plpgsql volatile  -- a snapshot of its own, for what row_event says of types
set search_path = pg_catalog, pg_temp
as $$
declare
    keep constant boolean := options -> 'columns' is not null;
    listed constant json := coalesce(options -> 'columns_at', options -> 'ignore_at');
    -- JSON of a record of columns, in the box; else of a record of their texts, without casts of users; else null.
    boxed constant text := 'coalesce((select relay.boxed(x.*) from (select %s) x), (select relay.boxed(x.*) from (select %s) x))';
    as_text constant text := 'case when num_nulls(r.%1$I) = 0 then format(''%%s'', r.%1$I) end as %2$I';
    told constant json := relay.told(tbl, 'r.%I');
    key text;
    boxed_key text;
    columns text;
    image text;
begin
    select string_agg(
            format('%L || %s', concat(to_json(k.name), ':'),
                   case when a.attname is null then quote_literal('null')
                        else format('coalesce(to_json(r.%I)::text, %L)', a.attname, 'null') end), ', ' order by k.n),
           format(boxed, string_agg(
                case when a.attname is null then format('null::text as %I', k.name)
                     else format('%s as %I', coalesce(told ->> a.attname::text, format('r.%I', a.attname)), k.name) end, ', ' order by k.n),
                string_agg(
                case when a.attname is null then format('null::text as %I', k.name)
                     else format(as_text, a.attname, k.name) end, ', ' order by k.n))
        into key, boxed_key
        from unnest(names, numbers) with ordinality k (name, number, n)
        left join pg_attribute a on a.attrelid = tbl and a.attnum = k.number and not a.attisdropped;
    select coalesce(string_agg(format('r.%I', attname), ', ' order by attnum), ''),
           -- null above 256 MiB, as in relay.compute
           format('(select case when octet_length(b.image::text) <= 268435456 then b.image end from (select %s as image '
                  'offset 0) b)', format(boxed, string_agg(format('%s as %I', coalesce(told ->> attname::text, format('r.%I', attname)), attname), ', ' order by attnum),
                string_agg(case when atttypid < 16384 and told is null then format('r.%I', attname)
                                else format(as_text, attname, attname) end, ', ' order by attnum)))
        into columns, image
        from pg_attribute
        where attrelid = tbl and attnum > 0 and not attisdropped
          and (attnum in (select n::smallint from json_array_elements_text(listed) n)) = keep;
    if current_setting('transaction_isolation') not like 'read %' or exists (
        select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tbl
        and d.refclassid = 'pg_type'::regclass) then
        return format('(select %s::text as key, %s as image from %I r offset 0)', boxed_key, image, rows);
    end if;
    return format('(select ''{'' || array_to_string(array[%s], '','') || ''}'' as key, case when pg_column_size(r.*) <= 262144 then %s '
                  'else %s end as image from %I r offset 0)', key,
        case when listed is null then 'row_to_json(r.*)'
             else format('(select row_to_json(c.*) from (select %s) c)', columns) end, image, rows);
end $$;
