-- No statistics of the secrets in relay.wanted: who may read all data (pg_read_all_data) reads pg_statistic as well, past row
-- level security. Whoever has them reads other owners' tables (key_taken.sql). What was sampled before is replaced by ''.
do $$
declare
    secrets jsonb;
begin
    if exists (select from pg_attribute where attrelid = 'relay.wanted'::regclass and attname = 'secret'
               and attstattarget is distinct from 0) then
        select jsonb_object_agg(tbl::oid, left(secret, 100)) into secrets from relay.wanted;
        update relay.wanted set secret = '';
        analyze relay.wanted (secret);
        update relay.wanted set secret = secrets ->> tbl::oid::text;
        alter table relay.wanted alter column secret set statistics 0;
    end if;
end $$;
