-- relay.compute(was record, now record, names text[], numbers smallint[], tbl oid, options json, filter text, chosen text, told json)
--     -> old_image json, new_image json, old_key text, new_key text, too_large boolean, passes boolean, problem text
-- The images and keys of a row before and after, and whether it meets a condition, where code of a user may run: the
-- cast to json of a column's type, a function in "when". The box that such code runs in:
--   - relay_compute owns this function. It has no right on anything, and can't name anything in schema relay.
--   - Read-only, so that the code can create, alter, drop, grant and write nothing, not even as relay_compute: no DDL,
--     DROP OWNED and REASSIGN OWNED included, no INSERT, no nextval. (Before PostgreSQL 16 RESET ends that.)
--   - All of it is rolled back, so that no set_config, LISTEN, NOTIFY or SET outlives it. (What PostgreSQL never rolls
--     back stays in the session: advisory locks, PREPARE and DEALLOCATE. A trigger of the table's owner could do these too.)
--   - Its error is no error of the writer's: the row is then written without such code (user types by their output
--     functions, which only a superuser can make), so that no event is lost and no statement fails.
-- Where the schema was restored without its owners, this is no box but a superuser's function: no code of a user runs then.
-- PL/pgSQL variables keep their values over the rollback; that is how the result gets out.
--   names, numbers  the key's columns; the numbers are those of relay.root_of(tbl)
--   options         columns or ignore, as in relay.pick
--   filter          the watch's condition on a row t, or null
--   chosen          that of who resends, or null: looked at where filter is met, on a row t of the columns of the images alone. Nothing
--                   else of the row is in its reach (so it names no parameter), or what it raises and whom it chooses would tell
--   told            relay.told(tbl, '($1).%I'): what is not to be read with its type's casts
--   passes          whether "now" meets both; null: it can't be said, see problem
--   problem         what a condition raised: "<SQLSTATE> <message>"
-- It costs tens of microseconds; for columns of PostgreSQL's own types row_event does without it.
create or replace function relay.compute(
    was record, now record, names text[], numbers smallint[], tbl oid, options json, filter text, chosen text, told json,
    out old_image json, out new_image json, out old_key text, out new_key text, out too_large boolean,
    out passes boolean, out problem text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
set standard_conforming_strings = on  -- conditions are written so: relay.definition_of
set array_nulls = on
as $$
declare
    root constant oid := coalesce((  -- relay.root_of
        select a.relid from pg_catalog.pg_partition_ancestors(tbl) with ordinality a (relid, n)
        where exists (select from pg_catalog.pg_trigger g where g.tgrelid = a.relid and g.tgname like E'!relay\\_%' and g.tgparentid = 0
                      and g.tgtype & 1 = 1)
        order by a.n limit 1), pg_catalog.pg_partition_root(tbl), tbl);
    keep constant boolean := options -> 'columns' is not null;
    listed constant json := coalesce(options -> 'columns', options -> 'ignore');
    listed_at constant json := coalesce(options -> 'columns_at', options -> 'ignore_at');
    -- A column's value in a query, without casts of users, and null where it is null (a row of nulls is not).
    plain constant text := 'case when pg_catalog.num_nulls(($1).%1$I) = 0 then pg_catalog.format(''%%s'', ($1).%1$I) end';
    hidden text[] := '{}';
    columns text;
    key text;
    stage text;  -- whose error it was
begin
    too_large := false;
    if listed is not null then
        hidden := array(
            select a.attname::text from pg_catalog.pg_attribute a
            where a.attrelid = root and a.attnum > 0 and not a.attisdropped
              and (case when listed_at is null then a.attname::text in (select pg_catalog.json_array_elements_text(listed))
                        else a.attnum in (select n::smallint from pg_catalog.json_array_elements_text(listed_at) n) end)
                  <> keep);
    end if;
    -- 1: as PostgreSQL writes JSON, the key read from it. If that fails, 2: key and columns named in queries, which take
    -- ten times as long. 3: these without casts of users.
    for attempt in 1..3 loop
        continue when attempt = 1 and (hidden <> '{}' or told is not null) or attempt < 3 and current_user <> 'relay_compute';
        if attempt > 1 then
            select pg_catalog.concat('select pg_catalog.row_to_json(x.*) from (select ', pg_catalog.string_agg(pg_catalog.concat(
                        case when attempt = 2 and told ->> a.attname::text is not null then told ->> a.attname::text
                             when attempt = 2 or a.atttypid < 16384 and told is null then pg_catalog.format('($1).%I', a.attname)
                             else pg_catalog.format(plain, a.attname) end,
                        pg_catalog.format(' as %I', a.attname)), ', ' order by a.attnum), ') x')
                into columns
                from (select n.attname, n.attnum, n.atttypid from pg_catalog.pg_attribute n
                      where n.attrelid = tbl and n.attnum > 0 and not n.attisdropped and told ->> '' is null
                      union all select k.name, 1600, 16384
                      from pg_catalog.json_object_keys(told) k (name) where k.name <> '' and told ->> '' is not null) a
                where a.attname <> all (hidden);
            -- An array: of arguments a function has no more than 100.
            select pg_catalog.concat('select ''{'' || pg_catalog.array_to_string(array[', pg_catalog.string_agg(
                        pg_catalog.format('%L || coalesce(pg_catalog.to_json(%s)::text, ''null'')',
                            pg_catalog.concat(pg_catalog.to_json(k.name), ':'),
                            case when a.attname is null then 'null::text'
                                 when attempt = 2 and told ->> a.attname::text is not null then told ->> a.attname::text
                                 when attempt = 2 or a.atttypid < 16384 and told is null then pg_catalog.format('($1).%I', a.attname)
                                 else pg_catalog.format(plain, a.attname) end),
                        ', ' order by k.n), '], '','') || ''}''')
                into key
                from unnest(names, numbers) with ordinality k (name, number, n)
                left join pg_catalog.pg_attribute a on a.attrelid = root and a.attnum = k.number and not a.attisdropped;
        end if;
        begin
            perform pg_catalog.set_config('transaction_read_only', 'on', true);
            if attempt = 1 then
                stage := 'image';
                old_image := pg_catalog.row_to_json(was);
                new_image := pg_catalog.row_to_json(now);
                stage := 'key';
                for i in 1..pg_catalog.cardinality(names) loop
                    if (old_image -> names[i]) is null and old_image is not null
                       or (new_image -> names[i]) is null and new_image is not null then
                        raise exception using errcode = 'RELAY';  -- renamed, or dropped
                    end if;
                    key := pg_catalog.concat(case when i > 1 then ',' else '{' end, pg_catalog.to_json(names[i]), ':');
                    old_key := case when old_image is not null then pg_catalog.concat(
                        case when i > 1 then old_key end, key, old_image -> names[i]) end;
                    new_key := case when new_image is not null then pg_catalog.concat(
                        case when i > 1 then new_key end, key, new_image -> names[i]) end;
                end loop;
                old_key := old_key || '}';
                new_key := new_key || '}';
            else
                stage := 'key';
                old_key := null;
                new_key := null;
                if pg_catalog.pg_column_size(was) is not null then
                    execute key into old_key using was;
                end if;
                if pg_catalog.pg_column_size(now) is not null then
                    execute key into new_key using now;
                end if;
                stage := 'image';
                if not too_large and old_key is not null then
                    execute columns into old_image using was;
                end if;
                if not too_large and new_key is not null then
                    execute columns into new_image using now;
                end if;
            end if;
            stage := 'condition';
            if coalesce(filter, chosen) is not null and current_user <> 'relay_compute' then
                raise exception 'relay.compute belongs to %: restored without its owners?', current_user;
            elsif filter is not null then
                execute pg_catalog.format('select exists (select from (select ($1).*) t where %s)', filter)
                    into passes using now;
            end if;
            if chosen is not null and passes is distinct from false then
                -- The row is a parameter. (With nulls for what is hidden, domains would be checked, and not null is an error.)
                if hidden <> '{}' and chosen ~ '[$][0-9]' then
                    raise exception 'relay: this condition has a $ before a digit, which is a parameter'
                        using errcode = 'undefined_parameter';
                end if;
                execute pg_catalog.format('select exists (select from (select %s) t where %s)', (
                        select pg_catalog.string_agg(pg_catalog.format('($1).%I', a.attname), ', ' order by a.attnum)
                        from pg_catalog.pg_attribute a where a.attrelid = tbl and a.attnum > 0 and not a.attisdropped
                          and a.attname <> all (hidden)), chosen)
                    into passes using now;
            end if;
            stage := 'done';
            raise exception using errcode = 'RELAY';
        exception when others or assert_failure then
            if stage = 'condition' then
                -- The listener reads it, and must not take it for a lock to be waited for, or a connection that is lost.
                problem := pg_catalog.concat(case when sqlstate ~ '^(0A|2[123]|42)' then sqlstate else 'P0001' end,
                                             ' ', pg_catalog.left(sqlerrm, 1000));
            elsif stage = 'image' and (attempt = 3 or sqlstate in ('54000', '53200', 'XX000')) then
                too_large := true;  -- PostgreSQL's text ends at 1 GB; "invalid memory alloc request size" is XX000
            elsif stage = 'key' and attempt = 3 then
                too_large := true;
            end if;
        end;
        exit when stage in ('condition', 'done');
    end loop;
    if greatest(pg_catalog.octet_length(old_image::text), pg_catalog.octet_length(new_image::text)) > 268435456 then
        too_large := true;  -- 256 MiB for one image: twice what RabbitMQ takes at most
    end if;
    if too_large then
        old_image := null;
        new_image := null;
    end if;
end $$;
