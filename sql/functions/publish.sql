-- relay.publish(topic text, payload text | json | jsonb, key text = null, headers jsonb = null) -> uuid
-- Puts an application's own event into the outbox, in the caller's transaction: it is published if that commits.
--   topic    routing key
--   payload  JSON; it becomes the message's body as it is, character by character (jsonb: as jsonb prints it)
--   key      events with the same key are delivered in order; null = no order. The events of a row have
--            'public.orders {"id":42}'
--   headers  a JSON object of extra message headers
-- Result: the event's id, which is its message_id in RabbitMQ.
--     select relay.publish('shop.paid', '{"order": 42, "total": 10.50}', key => 'order 42');
-- Needs: grant relay_publisher to app;
create or replace function relay.publish(topic text, payload text, key text default null, headers jsonb default null)
returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    xid constant xid8 := pg_current_xact_id();  -- before seq: see tables.sql
    event constant uuid := gen_random_uuid();
begin
    if relay.is_json(payload) is not true then
        raise exception 'relay.publish: the payload for topic % is not JSON: %', quote_nullable(topic),
            coalesce(quote_literal(left(payload, 60)), 'null')
            using errcode = 'invalid_text_representation',
                hint = 'Plain text: to_json(''...''::text); a row: row_to_json(t).';
    elsif jsonb_typeof(headers) <> 'object' then
        raise exception 'relay.publish: headers must be a JSON object, not %', headers
            using errcode = 'invalid_parameter_value', hint = 'For example ''{"source": "shop"}''.';
    elsif octet_length(headers::text) > 262144 then  -- above 1 GB even its length can't be told, nor the row be read
        raise exception 'relay.publish: the headers for topic % are larger than 256 KiB', quote_nullable(topic)
            using errcode = 'invalid_parameter_value', hint = 'RabbitMQ takes 128 kB of headers.';
    end if;
    insert into relay.outbox (xid, id, topic, op, key, body, headers)
        values (xid, event, relay.check_topic(topic), 'message', key, payload, headers);
    perform relay.wake();
    return event;
end $$;

create or replace function relay.publish(topic text, payload json, key text default null, headers jsonb default null)
returns uuid
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select relay.publish(topic, payload::text, key, headers) $$;

create or replace function relay.publish(topic text, payload jsonb, key text default null, headers jsonb default null)
returns uuid
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select relay.publish(topic, payload::text, key, headers) $$;
