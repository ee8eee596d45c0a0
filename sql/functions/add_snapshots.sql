-- relay.add_snapshots(tbl regclass, keys text[], images text[], passes boolean[], problem text, queue text) -> int
-- Puts rows of a watched table into the outbox as events with op snapshot, for relay.resend_chunk. An image that is null
-- was too large to be written as JSON; a row that does not pass the condition is left out. Result: how many.
--   queue  the one that they are for; null = all that are bound. A name of ours in RabbitMQ: amq.... is RabbitMQ's
create or replace function relay.add_snapshots(
    tbl regclass, keys text[], images text[], passes boolean[], problem text, queue text
) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    written int;
begin
    if problem is not null then
        raise exception '%', substr(problem, 7) using errcode = left(problem, 5);
    elsif queue = '' or octet_length(queue) > 255 or queue like 'amq.%' then
        raise exception 'relay: % can be no queue of ours', quote_literal(left(queue, 60))
            using errcode = 'invalid_parameter_value', hint = 'A name of 1 to 255 bytes; amq.... is RabbitMQ''s own.';
    end if;
    select min(a.args[1]) as topic, min(a.args[2]) as name
        into w from (select args from relay.arguments where tgrelid = tbl and length <= 262144 offset 0) a;
    insert into relay.outbox (topic, tbl, op, key, new_image, too_large, queue)
        select w.topic, w.name, 'snapshot', concat(w.name, ' ', e.key), e.image, nullif(e.image is null, false),
            add_snapshots.queue
        from unnest(keys, images, passes) with ordinality e (key, image, passes, n) where e.passes order by e.n;
    get diagnostics written = row_count;
    perform relay.wake();
    return written;
end $$;
