-- The readers of version 2 run a condition as the table's owner: each table gets another one, as far as whoever installs may
-- make it. (Where not, keys that rows exchange are told as deleted, and relay.watched says so.)
set local role none;
do $$
declare
    w record;
    new_reader text;
    new_secret text;
begin
    for w in select n.tbl, n.reader, n.filter, n.filter is null or strpos(f.prosrc, quote_literal(format(' and %s)', n.filter))) > 0 as is_its_own
             from relay.wanted n join pg_class c on c.oid = n.tbl
             left join pg_proc f on f.proname = n.reader::name and f.pronamespace = 'relay_readers'::regnamespace
                 and f.proowner = c.relowner
             order by n.tbl loop
        new_reader := 'r' || replace(gen_random_uuid()::text, '-', '');
        new_secret := concat(gen_random_uuid(), gen_random_uuid());
        perform relay.drop_reader(w.reader);
        set local role relay_owner;
        update relay.wanted set reader = new_reader, secret = new_secret where tbl = w.tbl;
        set local role none;
        if w.is_its_own then
            perform relay.make_reader(w.tbl, new_reader, new_secret, w.filter);
        else  -- relay.wanted may have been written to by another owner
            raise warning 'relay: % has a condition: keys that its rows exchange are told as deleted', w.tbl
                using hint = format('As its owner, with the arguments it had: select relay.watch(%L, ...);', w.tbl);
        end if;
    end loop;
end $$;
set local role relay_owner;
