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
    -- offset 0: computed once for each row, not wherever it is used.
    images constant text := '(select relay.key_of(i.key_image, null, $5, $6, $7) as key, i.image is null as too_large, '
        '  relay.pick(i.image, $8, $7) as image '
        'from (select (select row_to_json(k.*) from (select %2$s) k) as key_image, '
        '        case when pg_column_size(r.*) between 0 and 262144 then row_to_json(r.*) else relay.big_row(r.*) end as image '
        '      from %1$I r offset 0) i offset 0)';
    key_columns constant text := (
        select string_agg(format('r.%I', c), ', ')
        from unnest(tg_argv[3]::smallint[]) n, relay.column_now(tg_relid, n) c where c is not null);
    none constant text := '(select null::text as key, false as too_large, null::json as image where false)';
    written bigint;
begin
    execute format(
        'insert into relay.outbox (xid, id, at, topic, tbl, op, key, body) '
        'select $1, e.id, $2, $3, $4, e.op, concat($4, '' '', e.key), '
        '  relay.event_body(e.id, $2, $1, $4, e.op, e.key, case when e.op = ''delete'' or $9 then e.was::text end, '
        '                   e.now::text, e.too_large) '
        'from (select gen_random_uuid() as id, coalesce(now.key, was.key) as key, '
        '  case when was.key is null then ''insert'' when now.key is null then ''delete'' else ''update'' end as op, '
        '  coalesce(was.too_large, false) or coalesce(now.too_large, false) as too_large, '
        '  case when now.too_large is not true then was.image end as was, '
        '  case when was.too_large is not true then now.image end as now '
        'from %s was full join %s now on now.key = was.key '
        'where (was.image::text = now.image::text) is not true offset 0) e',
        case tg_argv[2] when 'insert' then none else format(images, 'relay_old', key_columns) end,
        case tg_argv[2] when 'delete' then none else format(images, 'relay_new', key_columns) end)
        using xid, clock_timestamp(), tg_argv[0], tg_argv[1], tg_argv[5:], tg_argv[3]::smallint[], tg_relid,
              tg_argv[4]::json, tg_argv[4]::json ->> 'old' is null;
    get diagnostics written = row_count;
    if written > 0 and (case when pg_try_advisory_lock_shared(491327873401)
                             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform pg_notify('relay', '');
    end if;
    return null;
end $$;
