-- Who may do what. Nothing for PUBLIC: a role that writes to watched tables needs no right here.
-- PostgreSQL gives PUBLIC the right to execute every new function.
do $$
declare
    f regprocedure;
    usual constant text := current_user;
begin
    for f in select oid from pg_proc where pronamespace = 'relay'::regnamespace order by proowner loop
        execute format('set local role %s', (select proowner::regrole from pg_proc where oid = f));
        execute format('revoke all on function %s from public', f);
    end loop;
    execute format('set local role %I', usual);
end $$;

grant usage on schema relay to relay_trigger, relay_listener, relay_publisher, relay_watcher;

-- relay_trigger: add events, and find again those of nested triggers (in_order.sql). It may not read what they say.
grant insert, select (seq, xid, at, tbl, from_tid) on relay.outbox to relay_trigger;
grant usage on sequence relay.outbox_seq_seq to relay_trigger;
grant execute on function
    relay.event_body(uuid, timestamptz, xid8, text, text, text, text, text, boolean),
    relay.column_now(oid, smallint), relay.root_of(oid), relay.operator_of(oid, int)
    to relay_trigger;

-- relay_listener: read, remove, mark, and put plain notifications in.
grant select, delete, update (error) on relay.outbox to relay_listener;
grant select on relay.watches, relay.watched, relay.pending to relay_listener;
grant execute on function
    relay.version(), relay.sleep_key(), relay.notified(text, text), relay.notified(text[], text[]),
    relay.resend_chunk(regclass, json, int, text), relay.resend_row(regclass, json, text),
    relay.resend_query(regclass, text), relay.resend_after(regclass, text[], text),
    relay.may_resend(regclass, text[]), relay.add_snapshots(regclass, text[], text[]),
    relay.column_now(oid, smallint), relay.root_of(oid), relay.operator_of(oid, int),
    relay.event_body(uuid, timestamptz, xid8, text, text, text, text, text, boolean)
    to relay_listener;

-- relay_publisher: put own events in.
grant execute on function
    relay.publish(text, text, text, jsonb), relay.publish(text, json, text, jsonb),
    relay.publish(text, jsonb, text, jsonb), relay.publish_many(text[], text[], text[], jsonb[])
    to relay_publisher;

-- relay_watcher: watch own tables. These run with the caller's rights; CREATE TRIGGER needs EXECUTE on its function.
grant select on relay.watched to relay_watcher;
grant execute on function
    relay.version(),
    relay.watch(regclass, text, text[], text[], text[], text, text[], boolean, boolean, boolean),
    relay.watch_table(regclass, text, text[], text[], text[], text, text[], boolean, boolean, boolean, text),
    relay.set_triggers(regclass, text[], text, text[], boolean, text[], text[]),
    relay.unwatch(regclass),
    relay.check_columns(regclass, text, text[]), relay.column_numbers(regclass, text[]),
    relay.check_table(regclass), relay.tell_children(regclass), relay.check_topic(text), relay.check_ops(text[]),
    relay.find_key(regclass, text[]), relay.find_columns(regclass, text[], text[]),
    relay.column_now(oid, smallint), relay.root_of(oid), relay.operator_of(oid, int),
    relay.qualify(regclass, text, text), relay.lock_table(regclass, text), relay.check_bulk(regclass, text[], text, boolean),
    relay.set_trigger(regclass, text, text, text, text, text[]), relay.drop_triggers(regclass, text[]),
    relay.let_read_key(regclass, text[]), relay.set_always(regclass, boolean)
    to relay_watcher;
set local role relay_trigger;
grant execute on function
    relay.key_of(json, record, text[], smallint[], oid), relay.key_image(record, smallint[], oid),
    relay.pick(json, json, oid), relay.big_row(record)
    to relay_listener;
grant execute on function relay.row_event(), relay.bulk_event(), relay.truncate_event() to relay_watcher;
set local role relay_owner;
