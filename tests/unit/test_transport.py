"""What is taken for another host, what libpq is told then, and what is warned of."""

from __future__ import annotations

import psycopg2.extensions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import config, targets, transport
from relay.errors import ConfigError
from relay.findings import Level
from relay.values import Dsn

HERE = ["", "localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "::1", "/run/postgresql", "@abstract"]
ELSEWHERE = [
    *("db", "db.example.lan", "10.0.0.1", "192.168.1.9", "fe80::1", "2001:db8::1", "0.0.0.0", "localhost.example.lan"),
    *("127.0.0.1.example.lan", "127.1", "::ffff:10.0.0.1", "1", "localhost ", "./run", "127.0.0.1:5432"),
]
STRICT = {"sslmode": "require", "channel_binding": "require"}
CAREFUL = {"require_auth": "!password"} if psycopg2.extensions.libpq_version() >= 160000 else {}


@pytest.fixture(autouse=True)
def _no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE", "PGCHANNELBINDING", "PGREQUIREAUTH"):
        monkeypatch.delenv(name, raising=False)


def test_only_sockets_and_loopback_are_this_host() -> None:
    assert [host for host in HERE if not transport.is_here(host)] == []
    assert [host for host in ELSEWHERE if transport.is_here(host)] == []


@given(st.ip_addresses() | st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True))
def test_no_other_address_or_name_is_this_host(host: object) -> None:
    text = str(host)
    assert transport.is_here(text) is (text in ("localhost", "::1") or (text.startswith("127.") and _is_ip4(text)))


def _is_ip4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(part.isdecimal() and part == str(int(part)) and int(part) < 256 for part in parts)


@pytest.mark.parametrize("url", [
    "postgresql:///erp", "dbname=erp", "postgresql://localhost/erp", "postgresql://[::1]/erp",
    "postgresql://%2Frun%2Fpostgresql/erp", "host=/run dbname=erp", "postgresql://127.0.0.1,localhost/erp",
    "host=db.example.lan hostaddr=127.0.0.1 dbname=erp",  # a tunnel
])  # fmt: skip
def test_to_this_host_tls_is_not_asked_for(url: str) -> None:
    told = {} if "///" in url or "run" in url or url == "dbname=erp" else CAREFUL
    assert transport.postgres_defaults(Dsn(url)) == told
    assert list(transport.findings(listen(url))) == []


@pytest.mark.parametrize("url", [
    "postgresql://db/erp", "host=db dbname=erp", "postgresql://127.0.0.1,db/erp", "postgresql://db,localhost/erp",
    "postgresql:///erp?host=db", "hostaddr=10.0.0.1 dbname=erp", "host=localhost hostaddr=10.0.0.1 dbname=erp",
    "host=localhost,db hostaddr=127.0.0.1, dbname=erp", "postgresql://u:sslmode=disable@db/erp",
])  # fmt: skip
def test_to_another_host_an_unspoken_sslmode_is_a_strict_one(url: str) -> None:
    assert transport.postgres_defaults(Dsn(url)) == STRICT
    (one,) = transport.findings(listen(url))
    assert (one.name, one.ok) == ("DATABASE_URL", True)
    assert one.level is Level.OK
    assert "sslmode=verify-full" in one.remedy


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
def test_what_the_url_says_is_kept(mode: str) -> None:
    url = f"postgresql://u:hidden@db.example.lan/erp?sslmode={mode}"
    assert transport.postgres_defaults(Dsn(url)) == {}
    found = list(transport.findings(listen(url)))
    assert len(found) == (mode != "verify-full")
    warned = list(transport.warnings(listen(url)))
    assert bool(warned) is (mode in ("disable", "allow", "prefer"))
    for one in found:
        assert one.ok
        assert (one.level is Level.WARNING) is bool(warned)
        assert f"sslmode={mode}" in one.detail
        assert "sslmode=verify-full" in one.remedy
        assert "hidden" not in repr(one)


def test_the_variables_of_libpq_count_where_the_url_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.lan")
    assert transport.postgres_defaults(Dsn("dbname=erp")) == STRICT
    assert transport.postgres_defaults(Dsn("host=localhost dbname=erp")) == CAREFUL
    if CAREFUL:  # before 16 libpq does not know the option
        assert transport.postgres_defaults(Dsn("host=localhost require_auth=password")) == {}
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert transport.postgres_defaults(Dsn("dbname=erp")) == {}, "require would weaken it"
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert "sslmode=disable" in next(transport.warnings(listen("dbname=erp")))[1]
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    assert transport.postgres_defaults(Dsn("host=localhost dbname=erp")) == STRICT


def test_a_service_must_be_accompanied_by_an_sslmode(monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq lets what stands in the URL win over the service file: a default of ours could weaken it."""
    with pytest.raises(ConfigError, match="names a service"):
        transport.postgres_defaults(Dsn("service=erp"))
    with pytest.raises(ConfigError, match="names a service"):
        transport.postgres_defaults(Dsn("service=erp host=localhost"))
    assert transport.postgres_defaults(Dsn("service=erp sslmode=verify-full")) == {}
    assert list(transport.warnings(listen("service=erp sslmode=prefer")))
    monkeypatch.setenv("PGSERVICE", "erp")
    with pytest.raises(ConfigError, match="names a service"):
        transport.postgres_defaults(Dsn("host=localhost dbname=erp"))


def listen(database_url: str = "dbname=erp", rabbitmq_url: str = "amqp://localhost") -> config.Listen:
    return config.load(
        config.Listen, None, {"DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url, "SOURCE": "erp"}
    )


def receive(**given: str) -> config.Receive:
    return targets.load(None, {"RABBITMQ_URL": "amqp://localhost", "QUEUE": "q", **given})


@pytest.mark.parametrize(("url", "told"), [
    ("amqp://u:hidden@mq.example.lan", True), ("amqps://u:hidden@mq.example.lan", False),
    ("amqp://u:hidden@127.0.0.1", False), ("amqp://u:hidden@[::1]:5672/v", False), ("amqp://u:hidden@10.0.0.1", True),
])  # fmt: skip
def test_amqp_to_another_host_is_warned_of(url: str, told: bool) -> None:
    for made in (listen(rabbitmq_url=url), receive(RABBITMQ_URL=url, HTTP_URL="http://localhost/")):
        found = list(transport.warnings(made))
        assert [key for key, _what, _remedy in found] == ["RABBITMQ_URL"] * told
        assert "hidden" not in str(found)
        assert [remedy.startswith("write amqps://") for _key, _what, remedy in found] == [True] * told


WEBHOOK_SECRET = "whsec_" + "A" * 44
ODOO = {"ODOO_MODEL": "m", "ODOO_METHOD": "m", "ODOO_DATABASE": "d", "ODOO_USER": "u", "TARGET": "odoo-call"}
HTTP = [
    ({"HTTP_URL": "http://odoo.lan/x", "HTTP_TOKEN": "hidden"}, "HTTP_TOKEN"),
    ({"HTTP_URL": "http://odoo.lan/x", "HTTP_USER": "u", "HTTP_PASSWORD": "hidden"}, "HTTP_PASSWORD"),
    ({"HTTP_URL": "http://odoo.lan/x", "WEBHOOK_SECRET": WEBHOOK_SECRET}, "WEBHOOK_SECRET"),
    ({"HTTP_URL": "http://odoo.lan/x", "HTTP_HEADERS": '{"X-Api-Key": "hidden"}'}, "HTTP_HEADERS"),
    ({"HTTP_URL": "http://odoo.lan/x", "HTTP_HEADERS": '{"X-Title": "{table}"}'}, ""),
    ({"HTTP_URL": "http://odoo.lan/x"}, ""),
    ({"HTTP_URL": "http://localhost/x", "HTTP_TOKEN": "hidden"}, ""),
    ({"HTTP_URL": "http://localhost/x", "HTTP_TOKEN": "hidden", "HTTP_PROXY_URL": "http://proxy.lan"}, "HTTP_TOKEN"),
    ({"HTTP_URL": "https://odoo.lan/x", "HTTP_TOKEN": "hidden", "HTTP_PROXY_URL": "http://proxy.lan"}, ""),
    ({"HTTP_URL": "HTTP://odoo.lan/x", "HTTP_TOKEN": "hidden"}, "HTTP_TOKEN"),
    (ODOO | {"ODOO_URL": "http://odoo.lan", "ODOO_API_KEY": "hidden"}, "ODOO_API_KEY"),
    (ODOO | {"ODOO_URL": "http://odoo.lan", "ODOO_PASSWORD": "hidden"}, "ODOO_PASSWORD"),
    (ODOO | {"ODOO_URL": "https://odoo.lan", "ODOO_PASSWORD": "hidden"}, ""),
    (ODOO | {"ODOO_URL": "https://odoo.lan", "ODOO_PASSWORD": "hidden", "HTTP_URL": "http://odoo.lan"}, ""),
    ({"TARGET": "odoo-webhook", "ODOO_WEBHOOK": "http://odoo.lan/web/hook/hidden"}, "ODOO_WEBHOOK"),
    ({"TARGET": "odoo-webhook", "ODOO_WEBHOOK": "http://127.0.0.1/web/hook/hidden"}, ""),
]


@pytest.mark.parametrize(("given", "told"), HTTP)
def test_a_secret_over_http_to_another_host_is_warned_of(given: dict[str, str], told: str) -> None:
    found = list(transport.warnings(receive(**given)))
    assert len(found) == bool(told)
    for key, what, remedy in found:
        assert key in given
        assert what.startswith(f"{told} and the events cross")
        assert remedy == "write https://"
        assert "hidden" not in what


@pytest.mark.parametrize(
    ("rabbitmq", "given", "url"),
    [
        ("amqp://127.0.0.1", "", "http://127.0.0.1:15672"),
        ("amqp://[::1]:5672", "", "http://[::1]:15672"),
        ("amqps://mq.example.lan", "", "https://mq.example.lan:15671"),
        ("amqp://mq.example.lan", "", ""),
        ("amqp://127.1", "", ""),
        ("amqps://mq.example.lan", "http://mq.example.lan:15672", ""),
        ("amqp://mq.example.lan", "https://mq.example.lan/rabbit/", "https://mq.example.lan/rabbit"),
        ("amqps://mq.example.lan", "http://localhost:8080", "http://localhost:8080"),
        ("amqp://127.0.0.1", "off", ""),
    ],
)
def test_the_password_goes_to_the_management_api_in_clear_text_on_this_host_only(
    rabbitmq: str, given: str, url: str
) -> None:
    environ = {"RABBITMQ_URL": rabbitmq, "QUEUE": "q", "HTTP_URL": "https://h/", "RABBITMQ_MANAGEMENT_URL": given}
    found, why = transport.management(config.load(config.Receive, None, environ))
    assert found == url
    assert bool(why) is not bool(url)


def test_the_remedy_for_clear_text_is_a_url() -> None:
    [(_key, _what, remedy)] = transport.warnings(listen(rabbitmq_url="amqp://u:hidden@[2001:db8::1]/v"))
    assert remedy == "write amqps://[2001:db8::1]:5671"
