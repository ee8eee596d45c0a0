-- relay.notified(channels text[], payloads text[]) -> int
-- For the listener: puts plain notifications (LISTEN_CHANNELS) into the outbox, in the order of the arrays, so that a
-- burst is one statement. The channel is the topic. A JSON payload goes as it is; other text is wrapped as
-- {"payload": "<text>"} and marked with the header "wrapped": true. Result: how many were written.
--     select relay.notified(array['orders', 'orders'], array['{"id": 1}', 'hello']);
create or replace function relay.notified(channels text[], payloads text[]) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    written int;
begin
    perform pg_current_xact_id();  -- before seq: see tables.sql
    if cardinality(channels) is distinct from cardinality(payloads) then
        raise exception 'relay.notified: % channels, % payloads', cardinality(channels), cardinality(payloads)
            using errcode = 'invalid_parameter_value', hint = 'Give two arrays of the same length.';
    end if;
    insert into relay.outbox (id, topic, op, key, body, headers)
        select gen_random_uuid(), e.channel, 'notify', concat('notify ', e.channel),
            case when e.json then e.payload else concat('{"payload": ', to_json(e.payload), '}') end,
            case when e.json then null else jsonb '{"wrapped": true}' end
        from (select u.*, relay.is_json(u.payload) as json
                from unnest(channels, payloads) with ordinality u (channel, payload, n)) e
        order by e.n;
    get diagnostics written = row_count;
    -- No wake: the caller is the listener.
    return written;
end $$;

-- relay.notified(channel text, payload text) -> int: the same for one.
create or replace function relay.notified(channel text, payload text) returns int
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select relay.notified(array[channel], array[payload]) $$;
