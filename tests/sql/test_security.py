"""Least privilege, and nothing that a writer or an owner of a type can do changes what is captured."""

import psycopg2
import pytest


def test_the_application_needs_no_right_on_relay(admin, app):
    app.sql("create table t (id int primary key)")
    admin.sql("select relay.watch('t')")
    app.sql("insert into t values (1); update t set id = 2; delete from t; truncate t")
    assert [op for op, _ in admin.story()] == ["insert", "delete", "insert", "delete", "truncate"]
    for statement in (
        "select * from relay.outbox", "insert into relay.outbox (topic, op, body) values ('a', 'message', '{}')",
        "delete from relay.outbox", "select relay.publish('a', '{}')", "select relay.watch('t')",
        "select relay.unwatch('t')", "select relay.notified('a', '{}')", "select * from relay.watched",
        "create trigger x after insert on t for each row execute function relay.row_event('a', 'b', 'insert')",
    ):  # fmt: skip
        assert app.error(statement).pgcode == "42501", statement


def test_public_may_do_nothing(admin):
    assert admin.sql(
        "select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a "
        "where pronamespace = 'relay'::regnamespace and a.grantee = 0"
    ) == []  # fmt: skip
    assert not admin.value("select has_schema_privilege('public', 'relay', 'usage')")
    assert admin.sql(
        "select relname from pg_class, aclexplode(relacl) where relnamespace = 'relay'::regnamespace and grantee = 0"
    ) == []  # fmt: skip


def test_everything_belongs_to_roles_without_rights_and_definers_have_a_fixed_path(admin):
    assert admin.sql(
        "select rolname from pg_roles where rolname like 'relay\\_%' and rolname not like '%\\_test' "
        "and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolcanlogin "
        "     or rolbypassrls and rolname <> 'relay_trigger')"
    ) == []  # fmt: skip
    assert admin.sql(
        "select member::regrole::text from pg_auth_members "
        "where member::regrole::text in ('relay_owner', 'relay_trigger', 'relay_compute')"
    ) == []  # fmt: skip
    assert admin.sql(
        "select distinct relowner::regrole::text from pg_class where relnamespace = 'relay'::regnamespace"
    ) == [("relay_owner",)]  # fmt: skip
    assert not admin.value("select has_schema_privilege('relay_compute', 'relay', 'usage, create')")
    assert not admin.value("select has_schema_privilege('relay_trigger', 'relay', 'create')")
    assert admin.sql(
        "select relname from pg_class, aclexplode(relacl) where grantee = 'relay_compute'::regrole"
    ) == []  # fmt: skip
    rows = admin.sql(
        "select proname, proowner::regrole::text, coalesce(array_to_string(proconfig, ';'), '') from pg_proc "
        "where pronamespace = 'relay'::regnamespace and prosecdef"
    )
    assert {name for name, _, _ in rows} >= {"row_event", "bulk_event", "truncate_event", "publish", "notified"}
    assert [row for row in rows if "search_path=pg_catalog, pg_temp" not in row[2]] == []
    assert {owner for name, owner, _ in rows if name.endswith("_event")} == {"relay_owner"}
    assert {name for name, owner, _ in rows if owner == "relay_compute"} == {"compute", "ask_reader", "boxed"}
    assert {name for name, owner, _ in rows if owner == "relay_trigger"} == {"keys_after", "read_present", "read_rows"}


def test_what_runs_in_a_writer_s_statement_may_write_nothing_at_all(admin):
    """A cast of the application's type runs in the box of relay.compute (test_attacks.py tries more there)."""
    admin.sql("""
        create type mean as enum ('a'); create table tried (who text, what text, failed bool);
        grant insert on tried to public; create table secrets (x int);
        create function mean_json(mean) returns json language plpgsql as $$
        declare s text; said text[];
        begin
            foreach s in array array['select 1', 'table relay.outbox', 'select body from relay.outbox',
                'delete from relay.outbox', 'update relay.outbox set error = $q$x$q$', 'truncate relay.outbox',
                'drop table relay.outbox',
                'alter function relay.publish(text, text, text, jsonb) reset all', 'table secrets',
                'create function relay.f() returns int language sql as $q$select 1$q$', 'create role x',
                'grant relay_owner to relay_trigger', 'set role relay_owner', 'select relay.publish($q$a$q$, $q$1$q$)',
                'drop schema relay cascade', 'select pg_read_file($q$/etc/passwd$q$)',
                'insert into public.tried values (current_user, $q$x$q$, false)'] loop
                begin
                    execute s; said := said || concat(current_user, ' did ', s);
                exception when others then said := said || concat(current_user, ' could not ', s); end;
            end loop;
            return to_json(said);
        end $$;
        create cast (mean as json) with function mean_json(mean);
        create table t (id int primary key, m mean); select relay.watch('t'); insert into t values (1, 'a');
    """)
    said = admin.events()[0]["new"]["m"]
    assert [s for s in said if " did " in s] == ["relay_compute did select 1"]
    assert len([s for s in said if s.startswith("relay_compute could not ")]) == 16
    assert admin.sql("table tried") == []


def test_hostile_operators_and_functions_in_the_writer_s_path_change_nothing(admin, app, database):
    app.sql("create table t (id int primary key, v text)")
    admin.sql(f"select relay.watch('t'); create schema evil authorization {database.APP}")
    app.sql("""
        create function evil.no(text, text) returns bool language sql as 'select false';
        create operator evil.<> (leftarg = text, rightarg = text, function = evil.no);
        create operator evil.= (leftarg = text, rightarg = text, function = evil.no);
        create function evil.concat(variadic text[]) returns text language sql as $$select 'x'$$;
        create function evil.row_to_json(record) returns json language plpgsql as $$begin return '{}'; end$$;
        create function evil.now() returns timestamptz language sql as $$select '2000-01-01'::timestamptz$$;
        create function evil.clock_timestamp() returns timestamptz language sql as $$select '2000-01-01'::timestamptz$$;
        create function evil.pg_notify(text, text) returns void language sql as $$select 1/0$$;
        set search_path = evil, pg_temp, pg_catalog, public;
        create temp table outbox (x int); create temp table pg_class (x int);
        insert into public.t values (1, 'a'); update public.t set v = 'b', id = 2;
    """)
    assert [(e["op"], e["new"]) for e in admin.events()] == [
        ("insert", {"id": 1, "v": "a"}), ("delete", None), ("insert", {"id": 2, "v": "b"}),
    ]  # fmt: skip
    assert admin.value("select min(at) > '2020-01-01' from relay.outbox")


def test_the_owner_of_a_path_cannot_make_watch_run_his_functions(admin, app):
    app.sql("create table t (id int primary key, v text)")
    app.sql("""
        create function public.format(text, variadic text[]) returns text language plpgsql as
            $$begin raise 'hijacked as %', current_user; end$$;
        create function public.array_to_string(text[], text) returns text language plpgsql as
            $$begin raise 'hijacked as %', current_user; end$$;
        create function public.quote_ident(varchar) returns text language plpgsql as
            $$begin raise 'hijacked as %', current_user; end$$;
    """)
    admin.sql("set search_path = public, pg_catalog")
    admin.sql("""select relay.watch('t', "when" => 'id > 0', columns => '{id,v}'); select relay.unwatch('t')""")


@pytest.mark.parametrize(
    "name", ["x'; drop table relay.outbox; --", 'x"; drop table relay.outbox; --', "$$", "%s %I %%", "\\'", "@.a"]
)
def test_names_and_values_are_never_read_as_sql(admin, name):
    quoted = '"' + name.replace('"', '""') + '"'
    with admin.connection.cursor() as cursor:
        cursor.execute(f"create table {quoted} ({quoted} text primary key, v text)")
    admin.sql("""select relay.watch(%s::regclass, topic => %s, "when" => %s, ignore => '{v}')""",
              quoted, name, quoted + " <> 'zzz'")  # fmt: skip
    with admin.connection.cursor() as cursor:
        cursor.execute(f"insert into {quoted} select $v${name}$v$")
        cursor.execute(f"update {quoted} set {quoted} = {quoted} || '2'")
    events = admin.events()
    assert [e["op"] for e in events] == ["insert", "delete", "insert"]
    assert events[0]["key"] == events[0]["new"] == {name: name}
    assert admin.value("select topic from relay.watched") == name
    assert admin.value("select relay.unwatch(%s::regclass)", quoted)


def test_the_owner_of_a_table_may_watch_it_with_one_grant(admin):
    admin.sql("""
        drop role if exists shop_owner; create role shop_owner; grant relay_watcher to shop_owner;
        create schema shop authorization shop_owner; set role shop_owner;
        create table shop.t (id int primary key, v int);
        select relay.watch('shop.t', "when" => 'v > 0', old => false);
        select relay.watch('shop.t', ignore => '{v}');
        insert into shop.t values (1, 2); update shop.t set id = 2;
    """)
    assert admin.sql("select tbl::text from relay.watched") == [("shop.t",)]
    assert admin.error("select * from relay.outbox").pgcode == "42501"
    admin.sql("select relay.unwatch('shop.t'); reset role")
    assert [op for op, _ in admin.story()] == ["insert", "delete", "insert"]
    admin.sql("create table mine (id int primary key); set role shop_owner")
    error = admin.error("select relay.watch('mine')")
    assert "it belongs to" in error.diag.message_primary
    assert "select relay.watch('public.mine')" in error.diag.message_hint
    admin.sql("reset role; drop owned by shop_owner; drop role shop_owner")


def test_a_schema_closed_to_relay_trigger_is_named_with_the_grant(admin):
    admin.sql("""
        drop role if exists tenant; create role tenant; grant relay_watcher to tenant; create schema closed;
        grant usage, create on schema closed to tenant; set role tenant; create table closed.t (id int primary key);
    """)
    error = admin.error("select relay.watch('closed.t')")
    assert "grant usage on schema closed to relay_trigger" in error.diag.message_hint
    assert admin.sql("select * from relay.watched") == []
    admin.sql(
        "reset role; grant usage on schema closed to relay_trigger; set role tenant; select relay.watch('closed.t')"
    )
    admin.sql("reset role; drop owned by tenant; drop role tenant")


def test_the_listener_may_do_what_it_needs_and_no_more(admin, database):
    listener = database.listener()
    admin.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1), (2)")
    admin.sql("create table other (id int primary key); insert into other values (1)")
    allowed = (
        "select * from relay.outbox", "update relay.outbox set error = 'x'", "delete from relay.outbox",
        "select relay.version(), relay.sleep_key()", "select relay.notified('a', 'b')", "select * from relay.pending",
        "select * from relay.watched", "select pg_current_xact_id()",
        "select relay.resend_row('t', '{\"id\":1}', null)",
    )  # fmt: skip
    refused = (
        "update relay.outbox set body = 'x'", "insert into relay.outbox (topic, op, body) values ('a', 'message', '1')",
        "truncate relay.outbox", "select relay.publish('a', '1')", "select relay.watch('t')", "table t",
        "drop table relay.outbox", "create table relay.x (a int)",
        "select relay.resend_row('other', '{\"id\":1}', null)",
    )  # fmt: skip
    with listener.cursor() as cursor:
        for statement in allowed:
            cursor.execute(statement)
        for statement in refused:
            with pytest.raises(psycopg2.Error, match=r"permission denied|must be owner|is not watched"):
                cursor.execute(statement)
