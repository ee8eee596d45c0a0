"""Each way in which capture ends, or goes wrong, without a word is in relay.watched, with the line that mends it."""

import pytest

WHEN = """, "when" => 'total > 5 and public.fine("a b")\'"""
FORGET = "delete from relay.wanted"
# What is done to a watched table t: arguments of relay.watch, statements, what the note says of it, what mends it (""
# = the remedy as it stands).
CASES = {
    "row level security forced": (
        "", "alter table t enable row level security, force row level security", "row level security is forced", ""),
    "the condition's column dropped": (
        WHEN, "alter table t drop total cascade", "((t.total > 5) AND", "select relay.watch('t')"),
    "the same, nothing else watched": (
        WHEN + ", ops => '{insert}'", "alter table t drop total cascade",
        "its condition names total, which was dropped",
        "select relay.watch('t')"),
    "the condition's function dropped": (
        WHEN, "drop function fine cascade", "triggers are gone: !relay_delete, !relay_insert",
        "select relay.watch('t')"),
    "the condition's column renamed": (
        WHEN, 'alter table t rename "a b" to b', 'names "a b", which was dropped or renamed',
        "select relay.watch('t')"),
    "always, enabled": ("", "", "", ""),
    "always, enabled as usual": (
        ", always => true", "alter table t enable trigger all", "should fire for replicated rows", ""),
    "disabled": ("", "alter table t disable trigger all", "a trigger is disabled", ""),
    "the user's disabled": ("", "alter table t disable trigger user", "a trigger is disabled", ""),
    "one disabled": (", always => true", 'alter table t disable trigger "!relay_update"', "a trigger is disabled", ""),
    "for replicated rows only": ("", 'alter table t enable replica trigger "!relay_insert"', "is disabled", ""),
    "one dropped": ("", 'drop trigger "!relay_update" on t', "gone: !relay_update", "select relay.watch('t')"),
    "one renamed": (
        "", 'alter trigger "!relay_update" on t rename to zz', "gone: !relay_update (there is also zz)",
        "drop trigger zz on public.t; select relay.watch('t')"),
    "another in its place": (
        "", ('drop trigger "!relay_delete" on t; create trigger "!relay_delete" before delete on t for each row '
        "execute function suppress_redundant_updates_trigger()"), "gone: !relay_delete", None),
    "key column renamed": ("", "alter table t rename id to nr", "key column was renamed", "select relay.watch('t')"),
    "key column dropped": (
        "", "alter table t drop id", "key column was renamed or dropped", "select relay.watch('t', key => '{total}')"),
    "table renamed": ("", "alter table t rename to u; create view t as select 1", "still name it public.t",
                      "select relay.watch('u')"),
    "moved to another schema": ("", "create schema s; alter table t set schema s", "still name it public.t",
                                "select relay.watch('s.t')"),
    "schema renamed": ("", "alter schema public rename to p", "still name it public.t",
                       "select relay.watch('p.t'); alter schema p rename to public; select relay.watch('t')"),
    "another owner": ("", "alter table t owner to postgres", "what looks up its keys", "select relay.watch('t')"),
    "dropped": ("", "drop table t", "the table was dropped", FORGET),
    "dropped with its owner": (
        "", "create role leaving; alter table t owner to leaving; drop owned by leaving; drop role leaving",
        "was dropped",
        FORGET),
    "the reader dropped": (
        "", ("do $$ begin execute (select format('drop function relay_readers.%I cascade', reader) "
        "from relay.wanted); end $$"),
        "what looks up its keys is gone", "select relay.watch('t')"),
    "a role that fires no triggers": (
        "", "alter database {database} set session_replication_role = replica", "session_replication_role is replica",
        "alter database {database} reset session_replication_role"),
    "unlogged, another key type, a column": (
        "", "alter table t set unlogged; alter table t alter id type bigint; alter table t add c text", "", ""),
}  # fmt: skip


def prepare(admin, more=""):
    admin.sql("create function fine(text) returns bool language sql immutable as 'select true'")
    admin.sql('create table t (id int primary key, total int, "a b" text)' + more)


@pytest.mark.parametrize("case", CASES)
def test_what_ends_capture_is_named_with_what_mends_it(admin, database, case):
    arguments, done, says, mended = CASES[case]
    prepare(admin, "; alter table t owner to app_test")
    admin.sql(f"select relay.watch('t'{arguments})")
    assert admin.sql("select note, remedy from relay.watched") == [(None, None)]
    admin.sql(done.replace("{database}", database.name) or "select")
    ((note, remedy),) = admin.sql("select note, remedy from relay.watched")
    if not says:
        assert (note, remedy) == (None, None)
        return
    assert says in note
    assert note == note.strip()
    if mended is not None:
        admin.sql((mended or remedy).replace("{database}", database.name))
        assert [found for (found,) in admin.sql("select note from relay.watched") if found] == []


def test_a_trigger_of_one_partition_that_is_disabled_is_named_and_mended(admin):
    prepare(admin, "partition by range (id)")
    admin.sql("create table t_1 partition of t for values from (0) to (9) partition by range (id)")
    admin.sql("create table t_1_1 partition of t_1 for values from (0) to (9); select relay.watch('t')")
    for always, done, says in (
        (False, "alter table t_1_1 disable trigger all", "a trigger is disabled on t_1_1"),
        (True, "alter table only t_1_1 enable trigger all", "it should fire for replicated rows"),
    ):
        admin.sql("select relay.watch('t', always => %s)", always)
        assert admin.value("select note from relay.watched") is None
        admin.sql(done)
        ((note, remedy),) = admin.sql("select note, remedy from relay.watched")
        assert note.startswith(says)
        admin.sql(remedy)
        assert admin.value("select note from relay.watched") is None
        admin.sql(f"set session_replication_role = {'replica' if always else 'origin'}; insert into t values (1)")
        admin.sql("reset session_replication_role; delete from t")
        assert ("insert", 1) in admin.story()


def test_a_table_that_was_watched_by_itself_becomes_a_partition(admin):
    prepare(admin)
    admin.sql("""
        select relay.watch('t'); create table root (id int primary key, total int, "a b" text) partition by range (id);
        alter table root attach partition t for values from (0) to (9); select relay.watch('root');
    """)
    assert admin.sql("select tbl::text, note from relay.watched") == [("root", None)]
    admin.sql("create table u (id int primary key, total int, \"a b\" text); select relay.watch('u')")
    attach = "alter table root attach partition u for values from (10) to (19)"
    assert "already exists" in str(admin.error(attach))
    admin.sql(f"select relay.unwatch('u'); {attach}; insert into root values (1), (11)")
    assert admin.sql("select distinct tbl from relay.outbox") == [("public.root",)]


def test_a_virtual_generated_column_that_was_added_is_named(admin):
    if admin.value("select current_setting('server_version_num')::int") < 180000:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    prepare(admin)
    admin.sql("select relay.watch('t'); alter table t add double int generated always as (2 * total) virtual")
    ((note, remedy),) = admin.sql("select note, remedy from relay.watched")
    assert "a virtual generated column was added" in note
    admin.sql("select relay.watch('t')")
    assert "relay.watch('t', ...)" in remedy
    assert admin.value("select note from relay.watched") is None


def test_row_level_security_changes_no_event_of_keys_that_rows_exchange(admin, app):
    app.sql("create table t (id int primary key deferrable)")
    admin.sql("select relay.watch('t')")
    app.sql("insert into t values (1), (2)")
    app.sql("alter table t enable row level security")
    admin.story()
    app.sql("update t set id = 3 - id")
    assert sorted(admin.story()) == [("insert", 1), ("insert", 2)]
