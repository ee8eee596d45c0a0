-- relay.backlog: the events in the outbox as they will be published, with their identity and their message.
--     select * from relay.backlog order by seq limit 20;
create or replace view relay.backlog as
select e.seq, e.id, e.at, e.xid, e.topic, e.tbl, e.op, e.key,
    coalesce(e.body, relay.event_body(e.id, e.at, e.xid, e.tbl, e.op, e.key, e.old_image, e.new_image, e.too_large)) as body,
    e.headers, e.error, e.queue
from (
    select o.seq, coalesce(o.id, relay.event_id(l.install, o.seq, o.xid, o.at)) as id, o.at, o.xid, o.topic, o.tbl, o.op,
        o.key, o.body, o.headers, o.error, o.old_image, o.new_image, o.too_large, o.queue
    from relay.outbox o cross join relay.listener l
) e;
