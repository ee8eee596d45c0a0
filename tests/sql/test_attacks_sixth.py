"""What fell to the sixth attack."""

from __future__ import annotations

import pytest

from dev.database import ensure_login
from tests.sql.conftest import TENANT, Session, login, reached

SPY = "language plpgsql as $f$begin raise warning 'reached as %', current_user; return 1; end$f$"


def looks(database) -> list[str]:
    """The tables that the listener hears about."""
    listener = Session(database.listener())
    listener.sql("set statement_timeout = '30s'")
    return [row[0] for row in listener.sql("select tbl::text from relay.watched")]


def test_a_type_made_of_65536_keeps_nobody_from_reading_about_the_others(tenant, database):
    """Each of these has two fields, both of the type before."""
    pairs = "".join(f"create type tenant.c{n} as (a tenant.c{n - 1}, b tenant.c{n - 1});" for n in range(1, 17))
    tenant.sql(f"""
        create type tenant.c0 as (a int); {pairs} create table tenant.t (id int primary key, n int);
        select relay.watch('tenant.t', "when" => 'n > 0'); alter table tenant.t add c tenant.c16;
    """)
    assert "victim.secret" in looks(database)


@pytest.mark.parametrize("shape", ["domain", "range"])
def test_a_type_however_deep_keeps_nobody_from_reading_about_the_others(tenant, database, shape):
    """Each of these is made of the one before; functions that called themselves found no end of the stack."""
    one = "domain tenant.x%s as tenant.x%s" if shape == "domain" else "type tenant.x%s as range (subtype = tenant.x%s)"
    tenant.sql(f"create {one % (0, 0)}".replace("tenant.x0)", "int)").replace("as tenant.x0", "as int"))
    for chunk in range(0, 2500, 500):  # locks of one transaction are limited
        tenant.sql(
            f"do $$begin for i in {chunk + 1}..{chunk + 500} loop "
            f"execute format('create {one}', i, i - 1); end loop; end$$"
        )
    tenant.sql(
        """create table tenant.t (id int primary key, n int); select relay.watch('tenant.t', "when" => 'n > 0')"""
    )
    if shape == "domain":
        tenant.sql("alter table tenant.t add c tenant.x2500")
    else:
        tenant.sql(
            "alter table tenant.t drop constraint t_pkey, alter id drop not null, alter id type tenant.x2500 using null"
        )
    assert "victim.secret" in looks(database)


@pytest.mark.parametrize(("volatility", "says"), [("immutable", False), ("stable", True)])
def test_to_watch_runs_nobody_else_s_function(admin, tenant, volatility, says):
    """To see whether a condition is immutable, PostgreSQL computes what is constant in it, as who watches."""
    tenant.sql(f"""
        create function tenant.code(text) returns int {volatility} {SPY};
        create table tenant.t (id int primary key, n int);
        create operator tenant.=== (function = tenant.code, rightarg = text);
    """)
    for condition in ("n = tenant.code('open')", "n = operator(tenant.===) 'open'"):
        del admin.notices[:]
        admin.sql("select relay.watch('tenant.t', \"when\" => %s)", condition)
        assert reached(admin) == set()
        assert any('"when" is not immutable' in notice for notice in admin.notices) == says
    tenant.sql("""select relay.watch('tenant.t', "when" => 'n = tenant.code(''open'')')""")


def test_a_condition_is_read_again_as_it_was_meant(admin, app, database):
    """Whatever the settings of the session that has watched: constants are kept as text."""
    app.sql("""
        set datestyle = 'SQL, DMY'; set extra_float_digits = -15; set intervalstyle = 'sql_standard';
        create table t (id int primary key deferrable, d date, f float, i interval);
    """)
    admin.sql(f"grant relay_watcher to {database.APP}")
    app.sql(
        """
        select relay.watch('public.t',
            "when" => 'd >= ''02/01/2024'' and f > ''0.123456789'' and i > ''-1 day 2 hours''')
        """
    )
    admin.sql("""
        insert into t values (1, '2024-01-02', 0.1234567891, '0'), (2, '2024-01-01', 1, '0'),
            (3, '2024-01-05', 0.123456788, '0'),
            (4, '2024-01-05', 1, '-24 hours');
    """)
    assert admin.story() == [("insert", 1), ("insert", 4)]
    Session(database.listener()).sql("select * from relay.resend_chunk('public.t', null, 10, null)")
    assert admin.story() == [("snapshot", 1), ("snapshot", 4)]
    admin.sql(f"revoke relay_watcher from {database.APP}")


def test_a_role_may_be_called_whatever_it_likes(admin, database):
    name = 'Shop "App", test'
    ensure_login(database.server, name, database.PASSWORD)
    quoted = admin.value("select quote_ident(%s)", name)
    admin.sql(f"grant relay_watcher to {quoted}; create schema shop authorization {quoted}")
    try:
        owner = login(database, name)
        owner.sql("""
            create table shop.t (id int primary key deferrable); select relay.watch('shop.t', "when" => 'id > 0');
            insert into shop.t values (1), (2);
        """)
        admin.sql("delete from relay.outbox")
        owner.sql("update shop.t set id = 3 - id")
        assert admin.story() == [("insert", 2), ("insert", 1)]
        assert admin.value("select note from relay.watched where tbl = 'shop.t'::regclass") is None
        owner.connection.close()
    finally:
        admin.sql(f"drop owned by {quoted} cascade; drop role {quoted}")


@pytest.mark.parametrize("given", ["function", "domain"])
def test_a_reader_of_which_only_one_part_changed_hands_is_not_asked(admin, tenant, given):
    """Whoever has the domain may have it checked, and so hears what the function wants to hear."""
    tenant.sql("create table tenant.t (id int primary key deferrable); select relay.watch('tenant.t')")
    reader = admin.value("select reader from relay.wanted where tbl = 'tenant.t'::regclass")
    whole = (
        f"function relay_readers.{reader}(relay_readers.{reader})"
        if given == "function"
        else f"domain relay_readers.{reader}"
    )
    admin.sql(
        f"alter table tenant.t owner to postgres; alter {whole} owner to postgres; insert into tenant.t values (1), (2)"
    )
    if given == "function":
        tenant.sql(f"""
            create function tenant.spy(json) returns int {SPY};
            alter domain relay_readers.{reader} add check (tenant.spy(value) > 0)
        """)
    admin.sql("delete from relay.outbox")
    del admin.notices[:]
    admin.sql("update tenant.t set id = 3 - id")
    assert reached(admin) == set()
    assert admin.story() == [("delete", 1), ("insert", 2), ("delete", 2), ("insert", 1)]


def test_a_table_with_another_owner_s_partition_is_not_asked(admin, tenant):
    """Between the look at what the planner would run and the query its owner could add something."""
    admin.sql("""
        create table root (id int primary key deferrable) partition by range (id);
        create table part partition of root for values from (0) to (100); select relay.watch('root');
        insert into root values (1), (2); delete from relay.outbox; update root set id = 3 - id;
    """)
    assert admin.story() == [("insert", 2), ("insert", 1)]
    admin.sql(f"alter table part owner to {TENANT}; update root set id = 3 - id")
    assert [op for op, _ in admin.story()] == ["delete", "insert", "delete", "insert"]
