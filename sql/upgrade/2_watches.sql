-- The watches of version 1 get what relay.watch does since version 2, as far as whoever installs may do that.
set local role none;
do $$
declare
    w record;
begin
    for w in select tbl::regclass, name, key, options, always from relay.watches loop
        begin
            -- The condition is read from the triggers, and will be read as SQL as the table's owner.
            if w.options ->> 'filter' is not null and exists (
                select from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
                where c.oid = w.tbl and a.privilege_type = 'TRIGGER' and a.grantee <> c.relowner) then
                raise insufficient_privilege using message = 'others may make triggers on it, and so choose its condition';
            end if;
            perform relay.let_read(w.tbl, w.key, w.options ->> 'filter');
            perform relay.remember(w.tbl, w.name, w.always, w.options ->> 'filter');
        exception when insufficient_privilege or undefined_column or check_violation then
            raise warning 'relay: % is watched as by version 1: %', w.tbl, sqlerrm
                using hint = format('As its owner, with the arguments it had: select relay.watch(%L, ...);', w.tbl);
        end;
    end loop;
end $$;
set local role relay_owner;
