-- relay.arguments: the arguments of the triggers of relay.watch, one row a trigger; for relay.watches and relay.watch_of. Of one table's
-- by the index on tgrelid: who sends rows again, or asks for one, does not read those of all others.
--   length  of all of them, in bytes: to read them takes up to 0.4 s a megabyte
create or replace view relay.arguments as
select t.oid, t.tgrelid, octet_length(t.tgargs) as length,
    -- They are stored one after the other, each closed by a zero byte; in "escape" that is \000, once the backslashes are octal as well.
    array(
        select convert_from(decode(x.escaped, 'escape'), getdatabaseencoding())
        from unnest(string_to_array(replace(encode(t.tgargs, 'escape'), '\\', '\134'), '\000'))
             with ordinality x (escaped, n)
        where x.n <= t.tgnargs
        order by x.n) as args
from pg_trigger t
where t.tgname like '!relay\_%' and t.tgparentid = 0
    -- Any login may name a trigger like that; the functions only a relay_watcher may use.
    and t.tgfoid in (select oid from pg_proc where pronamespace = 'relay'::regnamespace);
