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
            -- The condition is read from the triggers, and who has made them is not known: an owner of the table before
            -- this one, or whoever had the right TRIGGER then. As this owner it is not run.
            if w.options ->> 'filter' is not null then
                perform relay.drop_reader((select n.reader from relay.wanted n where n.tbl = w.tbl));
                raise warning 'relay: % has a condition: keys that its rows exchange are told as deleted', w.tbl
                    using hint = format('As its owner, with the arguments it had: select relay.watch(%L, ...);', w.tbl);
            end if;
        exception when insufficient_privilege or undefined_column or check_violation then
            raise warning 'relay: % is watched as by version 1: %', w.tbl, sqlerrm
                using hint = format('As its owner, with the arguments it had: select relay.watch(%L, ...);', w.tbl);
        end;
    end loop;
end $$;
set local role relay_owner;
