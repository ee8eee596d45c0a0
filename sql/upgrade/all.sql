-- Brings the tables of an older version up to date, one step a version. Functions, views and grants are not part of
-- a step: install.sql replaces them all afterwards. A step is a file, named after the version that it leads to.
-- tables.sql gets the same change, and tests/sql/test_upgrade.py shows that both ways end in the same schema.

select :relay_from > 0 and :relay_from < 2 as relay_to_2, :relay_from > 0 and :relay_from < 3 as relay_to_3,
    :relay_from = 2 as relay_from_2 \gset
-- A relay_watcher may have made views and functions that name ours: they do not hold an upgrade up, and go with what they name.
select set_config('relay.others', array(
    select distinct concat_ws(' ', x.class, x.oid, pg_describe_object(x.class, x.oid, 0), 'of', x.owner::regrole) from (
        select 'pg_class'::regclass as class, c.oid, c.relowner as owner, c.relnamespace as schema, d.refclassid, d.refobjid
            from pg_depend d join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass join pg_class c on c.oid = r.ev_class
        union all select 'pg_proc'::regclass, p.oid, p.proowner, p.pronamespace, d.refclassid, d.refobjid
            from pg_depend d join pg_proc p on p.oid = d.objid and d.classid = 'pg_proc'::regclass) x
    where x.schema <> all (array[to_regnamespace('relay'), to_regnamespace('relay_readers')]::oid[])
      and (x.refclassid = 'pg_class'::regclass and x.refobjid in (select oid from pg_class where relnamespace = to_regnamespace('relay'))
           or x.refclassid = 'pg_proc'::regclass and x.refobjid in (select oid from pg_proc where pronamespace = to_regnamespace('relay')))
)::text, true) \gset ignored_
\if :relay_to_2
    \ir 2.sql
\endif
\if :relay_to_3
    \ir 3.sql
\endif
do $$
declare
    gone text := (
        select string_agg(substring(o from '\S+ \S+ (.*)'), ', ') from unnest(current_setting('relay.others')::text[]) o
        where case split_part(o, ' ', 1) when 'pg_class' then not exists (select from pg_class where oid = split_part(o, ' ', 2)::oid)
                                         else not exists (select from pg_proc where oid = split_part(o, ' ', 2)::oid) end);
begin
    if gone is not null then
        raise warning 'relay: gone with what they named: %', gone using hint = 'Whoever made them may do so again.';
    end if;
end $$;
