"""TLS to a real MariaDB, of the listener and its commands: a private authority, and everything that must be refused."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import connection
from dev.mariadb import MariaDB
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay.database_url import PolledUrl, source_url
from relay.errors import ConfigError, RelayError
from tests.contract.sources import OfMariaDB, Relayed
from tests.listening import run
from tests.thief import Thief

Make = Callable[..., Script]
AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
ELSEWHERE = "127.1"  # this host, by a name that says so to nobody but the resolver


def write(directory: Path, name: str, certificate: trustme.LeafCert) -> None:
    (directory / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key = directory / f"{name}-key.pem"
    certificate.private_key_pem.write_to_path(key)
    key.chmod(0o600)


@pytest.fixture(scope="module")
def files(run_directory: Path) -> Iterator[Path]:
    """Authorities; certificates of the server's, of a client's, of a stranger's, and one that has expired."""
    made = run_directory / "mariadb-tls-files"
    made.mkdir(exist_ok=True)  # tests of this file may be given to this process twice
    AUTHORITY.cert_pem.write_to_path(made / "ca.pem")
    STRANGER.cert_pem.write_to_path(made / "stranger-ca.pem")
    present(made)
    write(made, "own", AUTHORITY.issue_cert("relay@example.lan"))
    write(made, "stranger", STRANGER.issue_cert("relay@example.lan"))
    write(made, "expired", AUTHORITY.issue_cert("relay@example.lan", not_after=LONG_AGO))
    yield made
    shutil.rmtree(made)


def present(directory: Path, **options: datetime.datetime) -> None:
    """Make the certificate that the server shows."""
    write(directory, "server", AUTHORITY.issue_cert("127.0.0.1", **options))


@pytest.fixture(scope="module")
def secure(run_directory: Path, files: Path) -> Iterator[MariaDB]:
    """It speaks TLS."""
    shown = {"ssl_ca": files / "ca.pem", "ssl_cert": files / "server.pem", "ssl_key": files / "server-key.pem"}
    made = MariaDB(run_directory / "mariadb-tls", durable=False, settings=shown)
    made.start()
    yield made
    made.remove()


@pytest.fixture
def source(secure: MariaDB) -> OfMariaDB:
    secure.renew()
    return OfMariaDB(secure)


@pytest.fixture
def relayed(script: Make, source: OfMariaDB, vhost: Vhost) -> Relayed:
    made = Relayed(script, source, vhost)
    made.bind()
    return made


def by(relayed: Relayed, *, host: str = "127.0.0.1", **options: Any) -> None:
    """Have DATABASE_URL say this."""
    said = "&".join(f"{name}={value}" for name, value in options.items())
    relayed.settings["DATABASE_URL"] = relayed.source.url.replace("127.0.0.1", host) + "?" * bool(said) + said
    relayed.script.configure(relayed.settings)


def certificate(files: Path, name: str) -> dict[str, Path]:
    return {"ssl_cert": files / f"{name}.pem", "ssl_key": files / f"{name}-key.pem"}


def test_everything_over_tls(relayed: Relayed, source: OfMariaDB, files: Path) -> None:
    """What the server says of the connections, not only that there are some: others have no way in."""
    source.server.execute("alter user relay_listen@'%' require ssl")
    by(relayed, ssl_ca=files / "ca.pem")
    relayed.start()
    source.commit(("t", 1, "k"))
    assert len(relayed.messages(1)) == 1
    for command in ("check", "status"):
        shown = run(relayed, command)
        assert (shown.returncode, shown.stderr) == (0, ""), shown.stdout
        assert "WARN" not in shown.stdout
    by(relayed)
    shown = run(relayed, "check")
    assert shown.returncode == 78
    remedy = "(1045) -> correct the user or password in DATABASE_URL; the account may require TLS: ssl_ca="
    assert remedy in shown.stdout


def test_a_client_s_certificate(relayed: Relayed, source: OfMariaDB, files: Path) -> None:
    source.server.execute("alter user relay_listen@'%' require x509")
    by(relayed, ssl_ca=files / "ca.pem", **certificate(files, "own"))
    relayed.start()
    source.commit(("t", 1, "k"))
    assert len(relayed.messages(1)) == 1
    by(relayed, ssl_ca=files / "ca.pem")
    shown = run(relayed, "check")
    assert shown.returncode == 78
    assert "; the account may require a certificate: ssl_cert and ssl_key" in shown.stdout
    for name in ("stranger", "expired"):
        by(relayed, ssl_ca=files / "ca.pem", **certificate(files, name))
        shown = run(relayed, "check")
        assert shown.returncode == 75, shown.stdout + shown.stderr
        assert "does it trust the certificate in ssl_cert, and has that not expired?" in shown.stdout


def refused(relayed: Relayed) -> str:
    """The listener's line; check and status say the same."""
    relayed.script.start()
    assert relayed.script.wait() == 78, relayed.script.log()
    line = relayed.script.log().splitlines()[-1]
    assert line.startswith("listen.py: MariaDB ")
    for command in ("check", "status"):
        shown = run(relayed, command)
        assert shown.returncode == 78, shown.stdout + shown.stderr
        assert line.removeprefix("listen.py: ") in shown.stdout + shown.stderr
    assert "listens" not in line
    return line


@pytest.mark.parametrize(("host", "ca", "said", "remedy"), [
    ("127.0.0.1", "stranger-ca", "certificate not accepted: self-signed certificate", "correct ssl_ca in DATABASE_URL"),
    ("localhost", "ca", "not valid for 'localhost'", "write the host's name as its certificate"),
])  # fmt: skip
def test_a_mariadb_that_is_not_trusted_is_refused(
    relayed: Relayed, files: Path, host: str, ca: str, said: str, remedy: str
) -> None:
    by(relayed, host=host, ssl_ca=files / f"{ca}.pem")
    line = refused(relayed)
    assert said in line
    assert line.partition(" -> ")[2].startswith(remedy)


@pytest.mark.parametrize("name", ["none", "own-key"])
def test_a_file_that_is_no_certificate_is_told(relayed: Relayed, files: Path, name: str) -> None:
    by(relayed, ssl_ca=files / f"{name}.pem")
    relayed.script.start()
    assert relayed.script.wait() == 78
    assert f"{name}.pem can't be read, or is no PEM file -> correct the path" in relayed.script.log()


def test_a_certificate_of_mariadb_that_has_expired_is_refused(relayed: Relayed, secure: MariaDB, files: Path) -> None:
    by(relayed, ssl_ca=files / "ca.pem")
    try:
        present(files, not_after=LONG_AGO)
        secure.execute("flush ssl")
        line = refused(relayed)
        assert "certificate has expired" in line
        assert "renew" in line.partition(" -> ")[2]
    finally:
        present(files)
        secure.restart()


def test_another_host_must_speak_tls_unless_the_url_says_otherwise(
    script: Make, relayed: Relayed, source: OfMariaDB, mariadb: MariaDB, vhost: Vhost
) -> None:
    source.server.execute("alter user relay_listen@'%' require ssl")
    by(relayed, host=ELSEWHERE)
    relayed.start()
    source.commit(("t", 1, "k"))
    assert len(relayed.messages(1)) == 1
    shown = run(relayed, "check")
    assert shown.returncode == 0, shown.stdout
    assert "ok      DATABASE_URL: no ssl_ca: nobody looks whether the server that answers is the one" in shown.stdout
    plain = Relayed(script, OfMariaDB(mariadb), vhost)  # the session's own; it speaks no TLS
    for host, options in ((ELSEWHERE, {}), ("127.0.0.1", {"ssl": "on"})):
        by(plain, host=host, **options)
        assert "SSL is required but the server doesn't support it (2026) -> switch TLS on there" in refused(plain)
    by(plain, host=ELSEWHERE, ssl="off")
    plain.start()
    (warned,) = [line for line in plain.script.log().splitlines() if "cross the network in clear text" in line]
    assert " WARNING " in warned
    assert "(ssl=off) setting=DATABASE_URL remedy=" in warned
    assert "WARN    DATABASE_URL: " in run(plain, "check").stdout


class ThiefOfMariaDB(Thief):
    """Takes the place of a MariaDB.

    Args:
        way: how one is to log in.
        greets: it says so at once, and not only when the user is known.
    """

    def __init__(self, way: str, *, greets: bool, context: ssl.SSLContext | None = None) -> None:
        self._way, self._greets = way.encode(), greets
        super().__init__(context)

    def _rob(self, client: socket.socket) -> None:
        flags = 0x00088200 | (0x0800 if self._context else 0)  # authentication by plugins, 4.1; TLS
        greeting = b"\n10.11.6-MariaDB\0" + struct.pack("<I", 7) + b"s" * 8 + b"\0"
        greeting += struct.pack("<HBHHB", flags & 0xFFFF, 45, 2, flags >> 16, 21) + b"\0" * 10 + b"s" * 12 + b"\0"
        greeting += (self._way if self._greets else b"mysql_native_password") + b"\0"
        client.sendall(packet(0, greeting))
        number = 1
        said = read(client)
        if self._context:
            client = self._context.wrap_socket(client, server_side=True)
            number, said = 2, read(client)
        self.taken.append(said)
        client.sendall(packet(number + 1, b"\xfe" + self._way + b"\0" + b"s" * 20 + b"\0"))
        self.taken.append(read(client))
        client.sendall(packet(number + 3, b"\x01\x04"))  # caching_sha2_password: the proof will not do
        self.taken.append(read(client))
        client.sendall(packet(number + 5, b"\x01-----BEGIN PUBLIC KEY-----"))
        self.taken.append(read(client))


def packet(number: int, body: bytes) -> bytes:
    return struct.pack("<I", len(body) | number << 24) + body


def read(client: socket.socket) -> bytes:
    size = struct.unpack("<I", client.recv(4, socket.MSG_WAITALL) if type(client) is socket.socket else client.recv(4))
    return client.recv(size[0] & 0xFFFFFF)


@pytest.fixture(params=["without TLS", "with TLS"])
def context(request: pytest.FixtureRequest) -> ssl.SSLContext | None:
    if request.param == "without TLS":
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    STRANGER.issue_cert(ELSEWHERE, "db.example.lan").configure_cert(made)
    return made


@pytest.mark.parametrize("greets", [False, True], ids=["later", "at once"])
@pytest.mark.parametrize("way", ["mysql_clear_password", "dialog", "sha256_password", "caching_sha2_password"])
def test_who_takes_the_place_of_mariadb_gets_no_password(
    context: ssl.SSLContext | None, way: str, greets: bool
) -> None:
    with contextlib.closing(ThiefOfMariaDB(way, greets=greets, context=context)) as thief:
        host = ELSEWHERE if context else "127.0.0.1"
        url = source_url(f"mariadb://relay_listen:hidden@{host}:{thief.port}/erp")
        assert isinstance(url, PolledUrl)
        with pytest.raises(ConfigError, match="the server wants the password itself") as raised:
            connection.open_polled(url, name="relay listen", timeout=10)
        assert thief.visits
        assert not any(b"hidden" in one for one in thief.taken), thief.taken
    assert "ssl_ca=/path/to/ca.pem" in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_the_thief_would_get_it_from_who_says_so(context: ssl.SSLContext | None) -> None:
    """Else the test above could not fail."""
    with contextlib.closing(ThiefOfMariaDB("mysql_clear_password", greets=False, context=context)) as thief:
        url = source_url(f"mariadb://relay_listen:hidden@127.0.0.1:{thief.port}/erp?ssl={'on' if context else 'off'}")
        assert isinstance(url, PolledUrl)
        with pytest.raises(RelayError):
            connection.open_polled(url, name="relay listen", timeout=10)
        assert any(b"hidden" in one for one in thief.taken)


def test_a_way_of_logging_in_that_this_driver_can_t_encrypt_is_told() -> None:
    """PyMySQL raises an error that is of no driver's kind, where `cryptography` is missing: a daemon has it not."""
    run_it = "runpy.run_path('listen.py', run_name='__main__')"
    without = f"import runpy, sys; sys.modules['cryptography'] = None; {run_it}"
    with contextlib.closing(ThiefOfMariaDB("caching_sha2_password", greets=True)) as thief:
        url = f"mariadb://relay_listen:hidden@127.0.0.1:{thief.port}/erp?ssl=off"
        done = subprocess.run(
            [sys.executable, "-c", without, "--env-file", os.devnull, "status"], cwd=ROOT, capture_output=True,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": url, "RABBITMQ_URL": "amqp://x:x@127.0.0.1:1/"}, text=True,
        )  # fmt: skip
        assert not any(b"hidden" in one for one in thief.taken)
    assert done.returncode == 78, done.stderr
    assert "this way of logging in must be encrypted -> say in DATABASE_URL who gets it: ssl_ca=" in done.stderr
    assert "Traceback" not in done.stderr
