-- relay.event_body(id, at, xid, tbl, op, key, old_image, new_image, too_large) -> text
-- The message of a row event, for whoever reads the outbox.
--     {"id":"0191...","at":"2024-05-01T10:00:00+00:00","xid":91234,"table":"public.orders","op":"update",
--      "key":{"id":42},"old":{...},"new":{...}}
--   key                   as in the outbox, 'public.orders {"id":42}'; without JSON behind the table's name (a TRUNCATE, or a
--                         trigger made by hand that tells an insert as a delete without a filter) it is null in the message
--   tbl                   null, of a trigger made by hand without one, is null in the message
--   old_image, new_image  JSON; null where there is none
--   too_large             adds "too_large":true: the row could not be written as JSON
-- It reads no JSON, so nothing in a row makes it fail, and it is the same text whatever the session is set to. Plain SQL
-- without SET, so that the planner puts it in line.
create or replace function relay.event_body(
    id uuid, at timestamptz, xid xid8, tbl text, op text, key text, old_image text, new_image text, too_large boolean
) returns text
language sql stable
as $$
    select pg_catalog.concat('{"id":"', id, '","at":',
        pg_catalog.left(pg_catalog.to_json(pg_catalog.timezone('UTC', at))::text, -1), '+00:00","xid":', xid,
        ',"table":', coalesce(pg_catalog.to_json(tbl)::text, 'null'), ',"op":', pg_catalog.to_json(op),
        ',"key":', coalesce(nullif(pg_catalog.substr(key, pg_catalog.length(tbl) operator(pg_catalog.+) 2), ''), 'null'),
        ',"old":', coalesce(old_image, 'null'), ',"new":', coalesce(new_image, 'null'),
        case when too_large then ',"too_large":true' end, '}')
$$;
