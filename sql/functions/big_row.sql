-- relay.big_row(r record) -> json
-- A row as JSON; null if it is too large for that. PostgreSQL's text ends at 1 GB, and 256 MiB for one image is twice
-- what RabbitMQ takes at most.
-- Called for rows of more than 256 KiB as stored. Others cannot become too large (decompressed at most 255 times,
-- escaped six times as long), and need not pay for the subtransaction of an exception block.
create or replace function relay.big_row(r record) returns json
language plpgsql stable
as $$
declare
    image json;
begin
    image := pg_catalog.row_to_json(r);
    return case when pg_catalog.octet_length(image::text) operator(pg_catalog.<=) 268435456 then image end;
exception when program_limit_exceeded or out_of_memory or internal_error then
    return null;  -- "invalid memory alloc request size" is an internal_error
end $$;
