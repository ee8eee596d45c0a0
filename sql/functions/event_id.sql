-- relay.event_id(install uuid, seq bigint, xid xid8, at timestamptz) -> uuid
-- The identity of a row event: the same whenever it is asked, and no other event's. seq alone is not one, nor xid: after a
-- crash, or in a restored database, both are given out again. The first half of a sha256, as a uuid of version 8 (its
-- makers choose; md5, and uuid version 3 with it, is not there under FIPS).
--   install  relay.listener.install
-- Plain SQL without SET, so that the planner puts it in line.
create or replace function relay.event_id(install uuid, seq bigint, xid xid8, at timestamptz) returns uuid
language sql immutable parallel safe
as $$
    select pg_catalog.encode(pg_catalog.set_byte(pg_catalog.set_byte(pg_catalog.substring(pg_catalog.sha256(
        pg_catalog.uuid_send(install) operator(pg_catalog.||) pg_catalog.int8send(seq)
        operator(pg_catalog.||) pg_catalog.xid8send(xid) operator(pg_catalog.||) pg_catalog.timestamptz_send(at)),
        1, 16), 6, 136), 8, 136), 'hex')::uuid  -- 136: version 8, and the variant of all uuids
$$;
