"""install.sql and uninstall.sql, as a superuser and on a managed service."""

import os
import subprocess

import psycopg2
import pytest

from dev.process import ServerError
from tests.sql.conftest import SQL, Session

ROLES = ("relay_owner", "relay_trigger", "relay_compute", "relay_listener", "relay_publisher", "relay_watcher")


class Server:
    """A server whose roles the tests may spoil; database "d" is new for each."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.sessions = []
        self.root = self.session("postgres")
        self.clean()
        self.root.sql("create database d")

    def clean(self):
        for name in ("d", "d2"):
            self.root.sql(f"drop database if exists {name} with (force)")
        for role in (*ROLES, "dba", "owner"):
            self.root.sql(f"drop role if exists {role}")

    def session(self, database="d", user="postgres"):
        connection = psycopg2.connect(self.dsn(database, user))
        connection.autocommit = True
        self.sessions.append(connection)
        return Session(connection)

    def dsn(self, database="d", user="postgres"):
        return self.postgres.dsn(database) if user == "postgres" else self.postgres.dsn(database, user, "secret")

    def run(self, script, *options, database="d", user="postgres"):
        command = [str(self.postgres.bin / "psql"), "-X", "-d", self.dsn(database, user), *options]
        done = subprocess.run([*command, "-f", str(SQL / script)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(done.stderr)
        return done.stdout + done.stderr


@pytest.fixture
def server(lone_postgres):
    made = Server(lone_postgres)
    yield made
    for connection in made.sessions[1:]:
        connection.close()
    made.clean()
    made.sessions[0].close()


def leftovers(session):
    return session.sql("select nspname from pg_namespace where nspname = 'relay'") + session.sql(
        "select tgname from pg_trigger where tgname like '!relay%'"
    )


def test_install_says_one_line_and_can_be_repeated_with_events_in_the_outbox(server):
    said = "relay: schema version 3 installed in database d. Next, for example: "
    assert server.run("install.sql").startswith(said)
    db = server.session()
    db.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1)")
    assert server.run("install.sql") == "relay: schema version 3 installed again in database d. Nothing else to do.\n"
    db.sql("insert into t values (2)")
    assert db.story() == [("insert", 1), ("insert", 2)]


def test_install_runs_in_a_hostile_session_and_in_one_transaction(server):
    options = "-c search_path=nowhere -c default_transaction_isolation=serializable -c standard_conforming_strings=on"
    env = dict(os.environ, PGOPTIONS=options)
    command = [str(server.postgres.bin / "psql"), "-X", "-q", "-d", server.dsn(), "-f", str(SQL / "install.sql")]
    subprocess.run(command, check=True, env=env)
    db = server.session()
    db.sql(
        "drop schema relay cascade; create schema relay authorization relay_owner; create table relay.publish (x int)"
    )
    db.sql("create view relay.pending as select 1 as other")
    with pytest.raises(ServerError):
        server.run("install.sql")
    assert db.sql("select relname from pg_class where relnamespace = 'relay'::regnamespace order by 1") == [
        ("pending",), ("publish",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    ["superuser", "createrole", "bypassrls", "login", "replication", "createdb"],
)
@pytest.mark.parametrize("role", ["relay_owner", "relay_trigger", "relay_compute"])
def test_install_refuses_an_owner_with_rights(server, spoil, role):
    if (role, spoil) == ("relay_trigger", "bypassrls"):
        server.root.sql("create role relay_trigger bypassrls")
        server.run("install.sql")
        return
    server.root.sql(f"create role {role} {spoil}")
    with pytest.raises(ServerError, match=f"relay refuses to install: {role} is {spoil}") as raised:
        server.run("install.sql")
    assert "HINT:  alter role" in str(raised.value)
    assert leftovers(server.session()) == []
    server.root.sql(f"alter role {role} no{spoil}")
    server.run("install.sql")


def test_install_refuses_an_owner_that_is_a_member_of_another_role(server):
    server.root.sql("create role relay_trigger; create role owner; grant owner to relay_trigger")
    with pytest.raises(ServerError, match=r"relay_trigger is a member of owner"):
        server.run("install.sql")
    server.root.sql("revoke owner from relay_trigger")
    server.run("install.sql")


def test_install_refuses_a_schema_of_somebody_else(server):
    server.session().sql("create schema relay")
    with pytest.raises(ServerError, match="schema relay exists already and belongs to postgres"):
        server.run("install.sql")


@pytest.fixture
def guest(server):
    """A session of a role that may create schemas in the database, and what it says that it ran."""
    server.root.sql("create role owner login password 'secret'; grant create on database d to owner")
    yield server.session(user="owner")
    server.session().sql("drop owned by owner cascade")


TRAP = """
    create schema relay; grant all on schema relay to public;
    create function relay.version() returns int language plpgsql as
        $$begin raise exception 'reached as %', current_user; end$$;
    create function relay.count() returns int language sql as 'select relay.version()';
    create view relay.outbox as select relay.count() as error; grant all on relay.outbox to public;
"""


@pytest.mark.parametrize("script", ["install.sql", "uninstall.sql"])
def test_nothing_in_a_schema_of_somebody_else_is_called_or_read(server, guest, script):
    """relay.version() ran as the superuser who installs; a view relay.outbox as the one who uninstalls."""
    guest.sql(TRAP)
    with pytest.raises(ServerError, match="schema relay exists already and belongs to owner"):
        server.run(script)


def test_install_refuses_a_schema_for_readers_of_somebody_else(server, guest):
    guest.sql("create schema relay_readers; grant all on schema relay_readers to public")
    with pytest.raises(ServerError, match="schema relay_readers exists already and belongs to owner"):
        server.run("install.sql")


@pytest.mark.parametrize("made", [
    "create function relay.wake(int default 1) returns void language sql as 'select'", "create table relay.x (a int)",
    "create view relay.outbox as select 1 as a", "create type relay.x as enum ('a')",
])  # fmt: skip
def test_install_refuses_what_somebody_else_has_put_into_its_schema(server, guest, made):
    guest.sql("create schema relay")
    guest.sql(made)
    server.root.sql("create role relay_owner")
    server.session().sql("alter schema relay owner to relay_owner")  # as the hint says
    with pytest.raises(ServerError, match=r"in schema relay, relay\.\S+ belongs to owner"):
        server.run("install.sql")


@pytest.mark.parametrize("role", ["relay_owner", "relay_trigger", "relay_compute"])
def test_install_refuses_a_role_that_somebody_may_become(server, role):
    """Whoever may create roles could have made it before; then every event is theirs."""
    server.root.sql(f"create role owner; create role {role}; grant {role} to owner")
    with pytest.raises(ServerError, match=f"relay refuses to install: owner may become {role}") as raised:
        server.run("install.sql")
    assert f"revoke {role} from owner;" in str(raised.value)
    server.root.sql(f"revoke {role} from owner")
    server.run("install.sql")


def test_install_on_a_managed_service_without_superuser(server):
    server.root.sql("create role dba login password 'secret' createrole; alter database d owner to dba")
    server.root.sql("create role owner login password 'secret'")
    server.run("install.sql", user="dba")
    server.run("install.sql", user="dba")
    dba = server.session(user="dba")
    dba.sql("create schema shop authorization dba; create table shop.t (id int, primary key (id) deferrable)")
    dba.sql("select relay.watch('shop.t'); insert into shop.t values (1), (2); update shop.t set id = 3 - id")
    root = server.session()
    assert root.value("select count(*) from relay.outbox") == 4
    assert root.sql(
        "select distinct relowner::regrole::text from pg_class where relnamespace = 'relay'::regnamespace"
    ) == [("relay_owner",)]
    assert root.sql("select rolname from pg_roles where rolname like 'relay%' and (rolsuper or rolcanlogin)") == []
    dba.sql("grant relay_watcher to owner; grant create on database d to owner")
    owner = server.session(user="owner")
    owner.sql("create schema mine; create table mine.t (id int primary key); select relay.watch('mine.t')")
    owner.sql("insert into mine.t values (1); select relay.unwatch('mine.t')")
    with pytest.raises(ServerError, match=r"5 events wait in relay.outbox"):
        server.run("uninstall.sql", user="dba")
    server.run("uninstall.sql", "-v", "force=1", user="dba")
    assert leftovers(root) == []
    root.sql("drop schema mine, shop cascade; drop owned by owner")


def test_a_role_that_may_not_create_roles_is_told_what_to_do(server):
    server.root.sql("create role dba login password 'secret'; alter database d owner to dba")
    with pytest.raises(ServerError, match=r"role relay_owner does not exist, and dba may not create roles") as raised:
        server.run("install.sql", user="dba")
    assert "alter role dba createrole" in str(raised.value)
    server.run("install.sql")
    server.run("uninstall.sql")
    server.root.sql("create role relay_owner; create role relay_trigger; create role relay_listener; "
                    "create role relay_compute; create role relay_publisher; create role relay_watcher")  # fmt: skip
    with pytest.raises(ServerError, match=r"dba is not a member of relay_owner") as raised:
        server.run("install.sql", user="dba")
    assert "grant relay_owner to dba" in str(raised.value)
    server.root.sql("grant relay_owner, relay_trigger, relay_compute to dba")
    server.run("install.sql", user="dba")


def test_uninstall_removes_everything(server):
    server.run("install.sql")
    db = server.session()
    db.sql("create schema shop; create table shop.t (id int primary key); alter table shop.t enable row level security")
    db.sql(
        "create table p (id int primary key) partition by list (id); create table p1 partition of p for values in (1)"
    )
    db.sql("select relay.watch('shop.t', always => true), relay.watch('p'); insert into p values (1)")
    with pytest.raises(ServerError, match=r"1 events wait in relay.outbox") as raised:
        server.run("uninstall.sql")
    assert "-v force=1" in str(raised.value)
    db.sql("delete from p")
    assert db.value("select count(*) from relay.outbox") == 2
    assert server.run("uninstall.sql", "-v", "force=1") == "relay: removed from database d.\n"
    assert leftovers(db) == []
    assert db.sql("select polname from pg_policy") == []
    assert db.sql("select relname from pg_class where relacl::text like '%relay%'") == []
    assert server.root.sql("select rolname from pg_roles where rolname like 'relay%'") == []
    db.sql("insert into shop.t values (1); insert into p values (1)")
    with pytest.raises(ServerError, match=r"relay is not installed in database d"):
        server.run("uninstall.sql")
    server.run("install.sql")


def test_two_databases_of_one_server_are_independent(server):
    server.root.sql("create database d2")
    server.run("install.sql")
    server.run("install.sql", database="d2")
    warning = server.run("uninstall.sql")
    assert "role relay_owner stays" in warning
    db = server.session("d2")
    db.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1)")
    assert db.story() == [("insert", 1)]
    server.run("install.sql")


def test_a_view_of_the_users_own_on_ours_survives_another_install(server):
    server.run("install.sql")
    db = server.session()
    db.sql("create view mine as select p.*, w.tbl from relay.pending p, relay.watched w")
    server.run("install.sql")
    assert db.sql("select * from mine") == []


def test_the_outbox_has_vacuum_settings_of_its_own(admin):
    options = dict(
        option.split("=")
        for option in admin.value("select reloptions from pg_class where oid = 'relay.outbox'::regclass")
    )
    assert options["autovacuum_vacuum_scale_factor"] == "0"
    assert options["vacuum_truncate"] == "false"


def test_pending_counts_by_topic_and_shows_the_first_error(admin):
    admin.sql("select relay.publish_many('{a,a,b}', '{1,2,3}')")
    admin.sql("update relay.outbox set error = 'too large ' || seq where topic = 'a'")
    rows = admin.sql(
        "select topic, events, errors, first_error, oldest = (select min(at) from relay.outbox) "
        "from relay.pending order by topic"
    )
    first = admin.value("select min(seq) from relay.outbox")
    assert rows[0] == ("a", 2, 2, f"too large {first}", True)
    assert rows[1][:4] == ("b", 1, 0, None)


@pytest.fixture
def creator(server):
    """A session of a role that may create roles, and schemas in the database."""
    server.root.sql("create role dba createrole login password 'secret'; grant create on database d to dba")
    yield server.session(user="dba")
    server.session().sql("reset role; drop owned by dba cascade")


def become(server, creator, role):
    """Have the creator made a role, and be it. It can leave again without a trace: by way of a role that it drops."""
    creator.sql(f"create role {role}")
    if server.root.connection.server_version >= 160000:
        creator.sql(f"grant {role} to dba with set true, inherit true")
    else:
        creator.sql(f"grant {role} to dba")


@pytest.mark.parametrize("group", ["relay_listener", "relay_publisher", "relay_watcher"])
def test_install_refuses_a_group_that_somebody_has_made_to_log_in_as(server, creator, group):
    creator.sql(f"create role {group} login password 'mine'")
    server.root.sql(f"revoke {group} from dba cascade")
    with pytest.raises(ServerError, match=f"{group} can log in") as raised:
        server.run("install.sql")
    assert f"HINT:  alter role {group} nologin;" in str(raised.value)
    server.root.sql(f"alter role {group} nologin")
    server.run("install.sql")


@pytest.mark.parametrize("group", ["relay_listener", "relay_publisher", "relay_watcher"])
def test_install_refuses_a_group_that_somebody_else_may_grant(server, creator, group):
    become(server, creator, group)
    server.root.sql(f"grant {group} to dba with admin option")
    with pytest.raises(ServerError, match=f"dba may grant {group}") as raised:
        server.run("install.sql")
    assert f"revoke {group} from dba cascade;" in str(raised.value)
    server.root.sql(f"revoke {group} from dba cascade")
    server.run("install.sql")
    server.root.sql(f"grant {group} to dba")  # who may use it
    server.run("install.sql")


def test_install_refuses_owners_whose_objects_are_given_to_somebody_beforehand(server, creator):
    """ALTER DEFAULT PRIVILEGES by who was its member: then everything that install.sql makes is granted to them."""
    become(server, creator, "relay_owner")
    creator.sql("alter default privileges for role relay_owner grant all on tables to dba")
    server.root.sql("revoke relay_owner from dba cascade")
    with pytest.raises(ServerError, match="relay_owner has default privileges"):
        server.run("install.sql")
    server.session().sql("drop owned by relay_owner")
    server.run("install.sql")
    assert not server.root.value("select count(*) from pg_default_acl")


def test_install_runs_nothing_of_a_schema_that_a_former_member_has_left(server, creator):
    become(server, creator, "relay_owner")
    creator.sql("""
        create schema relay authorization relay_owner; set role relay_owner;
        create function relay.version() returns int language plpgsql as
            $$begin raise exception 'reached as %', session_user; end$$;
        create table relay.outbox (x int); reset role;
    """)
    server.root.sql("revoke relay_owner from dba cascade")
    with pytest.raises(ServerError) as raised:
        server.run("install.sql")
    assert "reached as" not in str(raised.value)


def test_install_is_not_made_the_database_owner_s_by_a_setting_of_the_database(server, creator):
    """A superuser who connected was that role from the start; so the roles that install.sql made were that one's."""
    server.root.sql("alter database d owner to dba")
    creator.sql("alter database d set role = dba")
    with pytest.raises(ServerError, match="database d has made dba of postgres") as raised:
        server.run("install.sql")
    assert "alter database d reset role;" in str(raised.value)
    assert not server.root.value("select count(*) from pg_roles where rolname like 'relay%%'")
    server.run("install.sql", "-c", "set role none")
    assert not server.root.value("select pg_has_role('dba', 'relay_owner', 'MEMBER')")


def test_install_is_the_same_in_a_session_that_quotes_all_names(server, creator):
    """Who owns the database may have it do so: then our functions' owner might not call them, and no row be written."""
    server.root.sql("alter database d owner to dba")
    creator.sql("alter database d set quote_all_identifiers = on")
    server.run("install.sql")
    db = server.session()
    db.sql("create table t (id int primary key, v int)")
    db.sql("""select relay.watch('t', "when" => 'v > 0'); insert into t values (1, 1)""")
    assert db.story() == [("insert", 1)]
    server.run("uninstall.sql")


def test_an_extension_in_schema_relay_holds_up_no_install(server):
    """Of one that is trusted PostgreSQL asks for CREATE on the database, not on the schema."""
    server.root.sql("create role dba login password 'secret' createrole; create role owner login password 'secret'")
    server.root.sql("alter database d owner to dba; grant create on database d to owner")
    server.run("install.sql", user="dba")
    owner = server.session(user="owner")
    owner.sql("create extension hstore schema relay")
    assert "installed again" in server.run("install.sql", user="dba")
    assert owner.error("select relay.akeys(null)").pgcode == "42501", "nobody else may name what is there"
