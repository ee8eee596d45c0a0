-- relay.check_topic(topic text) -> text
-- The topic, or an error: it becomes a routing key, and AMQP allows 255 bytes.
--     select relay.check_topic('shop.orders');
create or replace function relay.check_topic(topic text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if topic is null or topic = '' then
        raise exception 'relay: the topic is empty'
            using errcode = 'invalid_parameter_value', hint = 'Give a routing key such as ''shop.orders''.';
    elsif octet_length(convert_to(topic, 'UTF8')) > 255 then
        raise exception 'relay: the topic % is longer than 255 bytes', quote_literal(left(topic, 60) || '...')
            using errcode = 'invalid_parameter_value', hint = 'It becomes a routing key; AMQP allows 255 bytes.';
    end if;
    return topic;
end $$;
