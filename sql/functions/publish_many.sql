-- relay.publish_many(topics text[], payloads text[], keys text[] = null, headers jsonb[] = null) -> uuid[]
-- relay.publish for many events in one statement: arrays of the same length, or null for keys and headers. The order
-- of the arrays is the order of the events. Result: their ids, in that order.
--     select relay.publish_many(array['shop.paid', 'shop.sent'], array['{"order": 1}', '{"order": 1}'],
--         array['order 1', 'order 1']);
-- Needs: grant relay_publisher to app;
create or replace function relay.publish_many(
    topics text[], payloads text[], keys text[] default null, headers jsonb[] default null
) returns uuid[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    bad record;
    ids uuid[];
begin
    perform pg_current_xact_id();  -- before seq: see tables.sql
    if cardinality(topics) is distinct from cardinality(payloads)
       or cardinality(keys) <> cardinality(payloads) or cardinality(headers) <> cardinality(payloads) then
        raise exception 'relay.publish_many: % topics, % payloads, % keys, % headers', cardinality(topics),
            cardinality(payloads), cardinality(keys), cardinality(headers)
            using errcode = 'invalid_parameter_value', hint = 'Give arrays of the same length.';
    end if;
    select e.n, e.topic, e.payload, e.header into bad
        from unnest(topics, payloads, headers) with ordinality e (topic, payload, header, n)
        where relay.is_json(e.payload) is not true or jsonb_typeof(e.header) <> 'object'
              or octet_length(e.header::text) > 262144 order by e.n limit 1;  -- see relay.publish
    if found then
        raise exception 'relay.publish_many: event % (topic %): % is not %', bad.n, quote_nullable(bad.topic),
            coalesce(quote_literal(left(case when relay.is_json(bad.payload) then bad.header::text
                                             else bad.payload end, 60)), 'null'),
            case when relay.is_json(bad.payload) then 'a JSON object of headers below 256 KiB' else 'JSON' end
            using errcode = 'invalid_text_representation', hint = 'No event of this call has been written.';
    end if;
    with event as materialized (
        select gen_random_uuid() as id, e.*
            from unnest(topics, payloads, keys, headers) with ordinality e (topic, payload, key, headers, n)
    ), written as (
        insert into relay.outbox (id, topic, op, key, body, headers)
            select e.id, relay.check_topic(e.topic), 'message', e.key, e.payload, e.headers
            from event e order by e.n
    )
    select array_agg(e.id order by e.n) into ids from event e;
    perform relay.wake();
    return coalesce(ids, '{}');
end $$;
