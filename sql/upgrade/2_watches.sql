-- The watches of version 1 get what relay.watch does since version 2, as far as whoever installs may do that.
set local role none;
do $$
declare
    w record;
begin
    for w in select tbl::regclass, name, key, options, always from relay.watches loop
        begin
            perform relay.let_read(w.tbl, w.key, w.options ->> 'filter');
            perform relay.remember(w.tbl, w.name, w.always, w.options ->> 'filter');
        exception when insufficient_privilege or undefined_column then
            raise warning 'relay: % is watched as by version 1: %', w.tbl, sqlerrm
                using hint = format('As its owner, with the arguments it had: select relay.watch(%L, ...);', w.tbl);
        end;
    end loop;
end $$;
set local role relay_owner;
