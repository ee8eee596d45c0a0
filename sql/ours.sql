-- Is what is there ours? Whoever may create schemas could have made one named relay: to call a function in it, or to read
-- a view, would be to run that role's code with the rights of whoever runs this. relay_readers holds functions of the
-- tables' owners, but its owner could replace them all.
do $$
declare
    s record;
    foreign_object text;
begin
    for s in select n.nspname, pg_get_userbyid(n.nspowner) as owner from pg_namespace n
             where n.nspname in ('relay', 'relay_readers') and pg_get_userbyid(n.nspowner) <> 'relay_owner' loop
        raise exception 'schema % exists already and belongs to %', s.nspname, s.owner
            using hint = format('If it is something else, rename it; if it was restored without its owners, see docs/upgrading.md; if an earlier install was changed by hand: '
                'alter schema %I owner to relay_owner;', s.nspname);
    end loop;
    select format('%s belongs to %I', o.name, r.rolname) into foreign_object
        from (select oid::regprocedure::text as name, proowner as owner from pg_proc where pronamespace = to_regnamespace('relay')
              union all select oid::regclass::text, relowner from pg_class where relnamespace = to_regnamespace('relay')
              union all select oid::regtype::text, typowner from pg_type where typnamespace = to_regnamespace('relay')
              union all select oid::regoperator::text, oprowner from pg_operator where oprnamespace = to_regnamespace('relay')
             ) o
        join pg_roles r on r.oid = o.owner
        where r.rolname not in ('relay_owner', 'relay_trigger', 'relay_compute', current_user) and not r.rolsuper
        order by 1 limit 1;
    if foreign_object is not null then
        raise exception 'in schema relay, %', foreign_object
            using detail = 'It could run in place of what relay has there.', hint = 'Drop it, or give it another schema.';
    end if;
end $$;
