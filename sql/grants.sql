-- Who may do what. Nothing for PUBLIC: a role that writes to watched tables needs no right here.
-- PostgreSQL gives PUBLIC the right to execute every new function; what an earlier version granted goes as well.
do $$
declare
    f regprocedure;
    r text;
    usual constant text := current_user;
begin
    for f in
        select p.oid from pg_proc p
        where p.pronamespace = 'relay'::regnamespace
          -- Of an extension, which who may CREATE in the database can put here (PostgreSQL 13): a superuser's.
          and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
        order by p.proowner
    loop
        execute format('set local role %s', (select proowner::regrole from pg_proc where oid = f));
        foreach r in array '{public,relay_owner,relay_trigger,relay_listener,relay_publisher,relay_watcher}'::text[] loop
            continue when r = (select proowner::regrole::text from pg_proc where oid = f);
            execute format('revoke all on function %s from %s', f, r);
        end loop;
    end loop;
    execute format('set local role %I', usual);
end $$;

grant usage on schema relay to relay_trigger, relay_listener, relay_publisher, relay_watcher;

-- relay_trigger: read tables that are watched; what it has made of theirs, it makes of relay_compute's box.
grant execute on function
    relay.column_numbers(regclass, text[]), relay.renamers(oid, smallint[], boolean), relay.is_as_owner(oid, oid), relay.compare(oid, int, text, text), relay.operator_of(oid, int),
    relay.base_type(oid), relay.type_name(oid), relay.is_plain(oid), relay.key_part(text, oid, text),
    relay.is_told(oid, oid), relay.are_told(oid[], oid), relay.told_as(oid, oid, text, int), relay.as_text(text), relay.guarded(text), relay.told(oid, text), relay.is_changed(oid)
    to relay_trigger;

-- relay_listener: read, remove, mark, and put plain notifications in.
grant select, delete, update (error) on relay.outbox to relay_listener;
grant select, update (turn, wakes) on relay.listener to relay_listener;
grant select on relay.watched, relay.pending, relay.backlog to relay_listener;
grant execute on function
    relay.read_options(text), relay.read_numbers(text), relay.renamers(oid, smallint[], boolean), relay.base_type(oid),  -- in relay.watched
    relay.is_as_owner(oid, oid), relay.unasked(oid, smallint[], boolean), relay.is_plain(oid), relay.is_told(oid, oid), relay.are_told(oid[], oid),
    relay.has_strangers(oid), relay.is_changed(oid), relay.tree_of(oid),
    relay.event_id(uuid, bigint, xid8, timestamptz),
    relay.event_body(uuid, timestamptz, xid8, text, text, text, text, text, boolean),
    relay.version(), relay.sleep_key(), relay.notified(text, text), relay.notified(text[], text[]),
    relay.resend_chunk(regclass, json, int, text, text), relay.resend_row(regclass, json, text, text),
    relay.watched_table(text), relay.present_rows(regclass, text[], int)
    to relay_listener;

-- relay_publisher: put own events in.
grant execute on function
    relay.publish(text, text, text, jsonb), relay.publish(text, json, text, jsonb),
    relay.publish(text, jsonb, text, jsonb), relay.publish_many(text[], text[], text[], jsonb[])
    to relay_publisher;

-- relay_watcher: watch own tables. These run with the caller's rights; CREATE TRIGGER needs EXECUTE on its function.
grant select on relay.watched to relay_watcher;
-- Columns: whoever may DELETE from a table, or UPDATE all of it, may LOCK it, and every writer whose rows change their keys
-- would wait, and the listener. (Of a note, relay.forget makes an end.) Nobody reads a secret:
-- with it a table's new owner could have the old one's reader run any query, as the old one.
revoke select on relay.wanted from relay_watcher;
grant select (tbl, name, triggers, always, filter, reader), insert, update (name, triggers, always, filter, reader, secret)
    on relay.wanted to relay_watcher;
grant execute on function
    relay.read_options(text), relay.read_numbers(text), relay.renamers(oid, smallint[], boolean), relay.base_type(oid), relay.version(),
    relay.is_as_owner(oid, oid), relay.unasked(oid, smallint[], boolean), relay.is_plain(oid), relay.is_told(oid, oid), relay.are_told(oid[], oid),
    relay.has_strangers(oid), relay.is_changed(oid), relay.tree_of(oid), relay.never_ask(regclass, text),
    relay.watch(regclass, text, text[], text[], text[], text, text[], boolean, boolean, boolean),
    relay.watch_table(regclass, text, text[], text[], text[], text, text[], boolean, boolean, boolean, text),
    relay.set_triggers(regclass, text[], text, text[], boolean, text[], text[]), relay.is_usual(regclass, text[]), relay.has_own_types(regclass),
    relay.unwatch(regclass),
    relay.check_columns(regclass, text, text[]), relay.column_numbers(regclass, text[]),
    relay.check_table(regclass), relay.tell_children(regclass), relay.check_topic(text), relay.check_ops(text[]),
    relay.find_key(regclass, text[]), relay.find_columns(regclass, text[], text[]),
    relay.column_now(oid, smallint), relay.root_of(oid), relay.operator_of(oid, int),
    relay.qualify(regclass, text, text), relay.definition_of(regclass), relay.lock_table(regclass, text), relay.check_name(regclass, boolean), relay.grant_on(regclass, text),
    relay.check_bulk(regclass, text[], text, boolean),
    relay.set_trigger(regclass, text, text, text, text, text[]), relay.drop_triggers(regclass, text[]),
    relay.let_read(regclass, text[], text), relay.set_always(regclass, boolean),
    relay.remember(regclass, text, boolean, text), relay.make_reader(regclass, text, text, text), relay.drop_reader(text), relay.owns(regclass),
    relay.row_event(), relay.image_event(), relay.boxed_event(), relay.bulk_event(), relay.truncate_event()
    to relay_watcher;

-- What the functions of relay_owner call of the others', and the one that relay_trigger calls.
set local role relay_trigger;
grant execute on function
    relay.keys_after(regclass, text[], text[], json, int),
    relay.read_rows(regclass, text[], text[], json, text, text, boolean, json, json),
    relay.read_present(regclass, text[], text[], json, text, json[])
    to relay_owner;
set local role relay_compute;
grant execute on function relay.compute(record, record, text[], smallint[], oid, json, text, text, json)
    to relay_owner, relay_trigger;
grant execute on function relay.ask_reader(text, text, text, text[], record), relay.boxed(record) to relay_owner;
set local role relay_owner;
grant usage, create on schema relay_readers to relay_watcher;
grant usage on schema relay_readers to relay_compute;
revoke all on schema relay from relay_compute;  -- it can't name anything here
