"""DATABASE_URL of polled sources: what is taken, what is refused with what to write, and that no password is shown."""

from __future__ import annotations

import pytest

from relay import config, transport
from relay.amqp import rights
from relay.database_url import PolledUrl, source_url
from relay.errors import ConfigError
from relay.listening.polled.unreachable import of_driver
from relay.values import Dsn, Invalid


@pytest.mark.parametrize(("url", "shown", "name", "product"), [
    ("mariadb://u:p%40w@db.lan/shop", "u@db.lan:3306/shop", "shop", "MariaDB"),
    ("mysql://u:pw@[::1]:3307/shop?ssl=off", "u@[::1]:3307/shop", "shop", "MySQL"),
    ("mysql+mysqldb://u@/shop?unix_socket=/run/mysqld/mysqld.sock", "u@/run/mysqld/mysqld.sock/shop", "shop", "MySQL"),
    ("sqlite:////var/lib/shop.v1.db", "/var/lib/shop.v1.db", "shop", "SQLite"),
    ("sqlite:///shop.db", "shop.db", "shop", "SQLite"),
    ("oracle+oracledb://u:pw@h/?service_name=S", "u@h:1521/S", "S", "Oracle"),
])  # fmt: skip
def test_what_is_taken(url: str, shown: str, name: str, product: str) -> None:
    found = source_url(url)
    assert isinstance(found, PolledUrl)
    assert (found.shown(), found.name, found.product) == (shown, name, product)


@pytest.mark.parametrize("url", ["postgresql://u@h/db", "postgres://u@h/db", "host=h dbname=db"])
def test_postgresql_is_as_ever(url: str) -> None:
    assert isinstance(source_url(url), Dsn)


@pytest.mark.parametrize(("url", "said"), [
    ("mysql://u:s3cret@h", "names no database"),
    ("mysql://h/shop", "names no user"),
    ("mysql://u:s3cret@/shop", "names no host"),
    ("mysql://u:s3cret@h:port/shop", "not a URL, or its port"),
    ("mysql://u:s3cret@h/shop?charset=latin1", "unknown option 'charset'"),
    ("mysql://u:s3cret@h/shop?ssl=maybe", "neither on nor off"),
    ("mysql://u:s3cret@h/shop?ssl=off&ssl_ca=/x", "ssl=off"),
    ("mysql://u:s3cret@h/shop?ssl_cert=/x", "only one of"),
    ("mysql://u:s3/cret@h/shop", "not a URL"),
    ("mysql://u:s3cret%ff@h/shop", "is no UTF-8 text where it is written as %XX"),
    ("mysql://u%ff:s3cret@h/shop", "is no UTF-8 text where it is written as %XX"),
    ("mysql://u:s3cret@h:0/shop", "not a URL, or its port"),
    ("mysql://u:s3cret@a..b/shop", "names no host"),
    (f"mysql://u:s3cret@{'x' * 64}/shop", "names no host"),
    ("postgresql://u:s3cret@h/%ff", "libpq can't read it"),
    ("postgresql://u:s3cret%ff@h/shop", "libpq can't read it"),
    ("sqlite:///", "names no file"),
    ("sqlite:///:memory:", "names no file"),
    ("mssql://u:s3cret@h/db", "SQL Server is not served"),
    ("mongodb://u:s3cret@h/db", "of no database that is known"),
])  # fmt: skip
def test_what_is_refused(url: str, said: str) -> None:
    with pytest.raises(Invalid) as raised:
        source_url(url)
    assert said in raised.value.what
    assert raised.value.remedy
    with pytest.raises(ConfigError) as problem:
        config.load(config.Listen, None, {"DATABASE_URL": url, "RABBITMQ_URL": "amqp://localhost"})
    assert "s3cret" not in str(problem.value)


def listen(url: str, **more: str) -> config.Listen:
    return config.load(config.Listen, None, {"DATABASE_URL": url, "RABBITMQ_URL": "amqp://localhost", **more})


def test_no_password_is_in_what_is_shown() -> None:
    settings = listen("mysql://u:s3cret@h/shop")
    assert "s3cret" not in repr(settings) + repr(settings.database_url) + str(settings.database_url)
    assert rights.source(settings) == "shop"
    assert rights.source(listen("mysql://u:pw@h/shop", SOURCE="other")) == "other"


@pytest.mark.parametrize(("url", "tls"), [
    ("mysql://u:pw@db.lan/shop", True), ("mysql://u:pw@db.lan/shop?ssl=off", False),
    ("mysql://u:pw@127.0.0.1/shop", False), ("mysql://u:pw@127.0.0.1/shop?ssl=on", True),
    ("mysql://u:pw@db.lan/shop?unix_socket=/run/s", False),
])  # fmt: skip
def test_to_another_host_it_speaks_tls(url: str, tls: bool) -> None:
    found = source_url(url)
    assert isinstance(found, PolledUrl)
    assert transport.wants_tls(found) is tls
    clear = [what for key, what, _remedy in transport.warnings(listen(url)) if key == "DATABASE_URL"]
    assert bool(clear) is ("ssl=off" in url)


class Error(Exception):
    """A driver's."""


@pytest.mark.parametrize(("arguments", "said", "is_final"), [
    ((1045, "Access denied for user 'u'@'h' (using password: YES)"), "Access denied", True),
    ((1062, "Duplicate entry 's3cret' for key 'PRIMARY'"), "error 1062", False),
    ((1064, "You have an error in your SQL syntax near 's3cret'"), "error 1064", False),
    ((2013, "Lost connection to server during query"), "Lost connection", False),
])  # fmt: skip
def test_an_error_says_what_happened_and_quotes_no_value(arguments: tuple[int, str], said: str, is_final: bool) -> None:
    url = source_url("mysql://u:pw@h/shop")
    assert isinstance(url, PolledUrl)
    error = of_driver(url, Error(*arguments))
    assert said in str(error)
    assert "s3cret" not in str(error)
    assert isinstance(error, ConfigError) is is_final


def test_a_defect_of_ours_is_no_error_of_a_driver() -> None:
    url = source_url("mysql://u:pw@h/shop")
    assert isinstance(url, PolledUrl)
    with pytest.raises(ZeroDivisionError):
        of_driver(url, ZeroDivisionError())
