-- relay.key_taken(tbl oid, was record, numbers smallint[]) -> boolean
-- Whether a watched row has the key of "was" now, after the statement. For row_event, when an update moves a row to
-- another key: after a swap, or id = id + 1, the old key belongs to another row and is no delete.
--   numbers  the key's column numbers in tbl
-- A row outside the condition of the watch does not count. The table is read as its owner, as PostgreSQL reads it for a foreign key: a query of ours would have the planner run
-- functions of the owner's with our rights (those of constants, in indexes and statistics), and policies as well.
-- false where it can't be said: the event is a delete then, and the writer's statement goes on.
create or replace function relay.key_taken(tbl oid, was record, numbers smallint[]) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    condition text;
    now_key text;
    was_key text;
begin
    select reader, secret, filter into w from relay.wanted where wanted.tbl = key_taken.tbl;
    if not found then
        return false;  -- triggers made by hand
    end if;
    -- Equal for the index, and then bit by bit: 1.0 and 1.00 are equal but different keys in JSON.
    select string_agg(relay.compare(atttypid, 3, format('t.%I', attname), format('($1).%I', attname)), ' and '),
           string_agg(format('t.%I', attname), ', '), string_agg(format('($1).%I', attname), ', ')
        into condition, now_key, was_key
        from pg_attribute where attrelid = tbl and attnum = any (numbers) and not attisdropped;
    return relay.ask_reader(w.reader, w.secret, format(
        'select exists (select from %s t where %s and row(%s)::record operator(pg_catalog.*=) row(%s)::record and %s)',
        tbl::regclass, condition, now_key, was_key, coalesce(w.filter, 'true')), was);
end $$;

-- relay.make_reader(tbl regclass, reader text, secret text) -> void
-- The function that looks up a key in a table, owned by the table's owner: it runs a query of relay.key_taken's. Only who
-- knows the secret may have it run one, and only relay.ask_reader may call it.
create or replace function relay.make_reader(tbl regclass, reader text, secret text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner constant regrole := (select relowner from pg_class where oid = tbl);
begin
    execute format(
        'create function relay_readers.%I(secret text, query text, was record) returns boolean '
        'language plpgsql security definer set search_path = pg_catalog, pg_temp as %L', reader, format(
        'declare taken boolean; begin if md5(secret) <> %L then raise exception ''relay: not for you''; end if; '
        'execute query into taken using was; return taken; end', md5(secret)));
    execute format('comment on function relay_readers.%I(text, text, record) is %L', reader,
                   format('relay: whether another row of %s has a key', tbl));
    execute format('revoke all on function relay_readers.%I(text, text, record) from public', reader);
    execute format('grant execute on function relay_readers.%I(text, text, record) to relay_compute', reader);
    if owner <> current_user::regrole then
        execute format('alter function relay_readers.%I(text, text, record) owner to %s', reader, owner);
    end if;
exception when insufficient_privilege then
    raise notice 'relay.watch: keys of % that rows exchange are told as deleted and inserted: %', tbl, sqlerrm
        using hint = format('As %s or as a superuser: select relay.watch(%L, ...);', owner, tbl);
end $$;
