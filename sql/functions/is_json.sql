-- relay.is_json(value text) -> boolean
-- Whether a text is valid JSON (null: false).
--     select relay.is_json('{"a": 1}');     -- true
-- With an exception block, since pg_input_is_valid exists only from PostgreSQL 16. Nothing is written inside it, so
-- its subtransaction takes no transaction id.
create or replace function relay.is_json(value text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return value::json is not null;
exception when invalid_text_representation or statement_too_complex then
    return false;
end $$;
