"""Settings: all problems at once, each with its key, a masked value and the remedy."""

import base64
import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dev import configuration
from relay import config, setting, targets
from relay.errors import ConfigError

LISTEN = {"DATABASE_URL": "postgresql://u:pw@h/db", "RABBITMQ_URL": "amqp://u:pw@h/v"}
EXAMPLE = Path(__file__).parents[2] / "config.example.env"


ODOO = {"TARGET": "odoo-call", "ODOO_MODEL": "m", "ODOO_METHOD": "m", "ODOO_API_KEY": "k", "ODOO_URL": "https://h"}

Load = Callable[[Path | None, dict[str, str]], config.Common]


def listen(env_file: Path | None, environ: dict[str, str]) -> config.Listen:
    return config.load(config.Listen, env_file, environ, targets.setting_names())


def problems(load: Load, environ: dict[str, str], env_file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(env_file, environ)
    return [f"{what} -> {remedy}" for what, remedy in caught.value.problems]


def test_a_dollar_in_a_password_is_an_ordinary_character(tmp_path: Path) -> None:
    env = tmp_path / "e.env"
    env.write_text("DATABASE_URL=postgresql://u:a$HOME${x}@h/db\nRABBITMQ_URL='amqp://u:p$w@h:5673/%2F'\n")
    settings = listen(env, {"HOME": "/root"})
    assert settings.database_url == "postgresql://u:a$HOME${x}@h/db"
    assert settings.rabbitmq_url.password == "p$w"
    assert (settings.rabbitmq_url.port, settings.rabbitmq_url.vhost) == (5673, "/")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    env = tmp_path / "e.env"
    env.write_text("EXCHANGE=file\n" + "".join(f"{k}={v}\n" for k, v in LISTEN.items()))
    assert listen(env, {"EXCHANGE": "environment"}).exchange == "environment"


def test_a_secret_in_the_environment_wins_over_its_file_form(tmp_path: Path) -> None:
    env = tmp_path / "e.env"
    env.write_text("DATABASE_URL_FILE=/nowhere\n")
    assert listen(env, LISTEN).database_url == LISTEN["DATABASE_URL"]


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://u:from-file@h/db\n")
    environ = {"RABBITMQ_URL": LISTEN["RABBITMQ_URL"], "DATABASE_URL_FILE": str(secret)}
    assert listen(None, environ).database_url == "postgresql://u:from-file@h/db"


def test_both_forms_of_a_secret_are_an_error(tmp_path: Path) -> None:
    (said,) = problems(listen, LISTEN | {"DATABASE_URL_FILE": str(tmp_path / "x")})
    assert "both DATABASE_URL and DATABASE_URL_FILE are set" in said


def test_all_problems_are_reported_together_and_secrets_are_masked(tmp_path: Path) -> None:
    env = tmp_path / "e.env"
    env.write_text(
        "DATABASE_URL=postgresql://u:s3cret@h\nRABBITMQ_URL=amqp://u:s3cret@h:99999/\n"
        "WINDOW_EVENTS=many\nHEARTBEAT=1\nEXCHAGNE=x\nNOTIFY\n"
    )
    said = problems(listen, {}, env)
    assert len(said) == 6
    text = "\n".join(said)
    for expected in (
        "DATABASE_URL=postgresql://***@h: names no database",
        "RABBITMQ_URL=amqp://***@h:99999/",
        "WINDOW_EVENTS=many",
        "HEARTBEAT=1",
        "did you mean EXCHANGE?",
        "NOTIFY in",
    ):
        assert expected in text
    assert "s3cret" not in text


def test_a_missing_required_setting_is_named() -> None:
    said = problems(targets.load, {"RABBITMQ_URL": "amqp://h"})
    assert said[0].startswith("QUEUE is not set -> ")


def test_a_missing_env_file_is_one_clear_error(tmp_path: Path) -> None:
    assert any("does not exist" in line for line in problems(listen, {}, tmp_path / "none.env"))


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "amqp://",
        "amqp://h:port/",
        "amqp://h/a/b",
        "amqp://h/?heartbeat=5",
        "h:5672",
        "amqp://u:s3cret@/v",
        "amqp://u:s3cret%ff@h/v",
        "amqp://u:s3cret@h/%ff",
        f"amqp://u:s3cret@h/{'v' * 256}",
    ],
)
def test_a_url_that_is_no_amqp_url_is_refused_without_showing_the_password(url: str) -> None:
    (said,) = problems(listen, LISTEN | {"RABBITMQ_URL": url})
    assert said.startswith("RABBITMQ_URL=")
    assert "amqp://user:password@host" in said or "HEARTBEAT" in said or "bytes in UTF-8" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("url", ["postgresql://h:99x/db", "nonsense", "password=two words s3cret dbname=x"])
def test_a_dsn_that_libpq_refuses_shows_nothing_of_it(url: str) -> None:
    (said,) = problems(listen, LISTEN | {"DATABASE_URL": url})
    assert "s3cret" not in said
    assert "postgresql://user:password@host" in said


def test_settings_that_contradict_each_other_are_named() -> None:
    (said,) = problems(listen, LISTEN | {"RECONNECT_MIN": "20", "RECONNECT_MAX": "10"})
    assert "RECONNECT_MIN is above RECONNECT_MAX" in said


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        ("direct", "", "BINDING_KEYS has #"),
        ("direct", "public.orders,public.*", "BINDING_KEYS has public.*"),
        ("fanout", "public.orders", "BINDING_KEYS is set"),
    ],
)
def test_binding_keys_that_the_exchange_does_not_know_are_refused(kind: str, keys: str, said: str) -> None:
    given = {"RABBITMQ_URL": LISTEN["RABBITMQ_URL"], "QUEUE": "q", "HTTP_URL": "http://h/"}
    (found,) = problems(targets.load, given | {"EXCHANGE_TYPE": kind, "BINDING_KEYS": keys})
    assert said in found


def _kind(target: str) -> type[config.Receive]:
    kind: type[config.Receive] = importlib.import_module(targets.TARGETS[target].module).Settings
    return kind


RECEIVE = {"RABBITMQ_URL": "amqp://u:s3cret@h/v", "QUEUE": "q", "HTTP_URL": "https://h/?token=s3cret"}


@pytest.mark.parametrize("show", [repr, str, "{}".format])
@pytest.mark.parametrize("not_both", ["ODOO_API_KEY", "ODOO_PASSWORD"])
@pytest.mark.parametrize("target", ["", *targets.TARGETS])
def test_no_secret_is_in_the_repr_of_the_settings(target: str, not_both: str, show: Callable[[object], str]) -> None:
    kind = _kind(target) if target else config.Listen
    given = RECEIVE if target else {k: v.replace("pw", "s3cret") for k, v in LISTEN.items()}
    others = {f.name.upper(): "s3cret" * 4 for f in dataclasses.fields(kind) if f.metadata["secret"]}
    own = {
        "HTTP_HEADERS": '{"X-Key": "s3cret"}',
        "WEBHOOK_SECRET": base64.b64encode(b"s3cret" * 4).decode(),
        "ODOO_WEBHOOK": "https://h/web/hook/s3cret",
        "ODOO_DATABASE": "d",
        "ODOO_USER": "u",
        "PYTHON_HANDLERS": "m",
        "ODOO_MAPPING": str(EXAMPLE),
        "TARGET": target,
        not_both: "",
    }
    settings = config.load(kind, None, ODOO | others | own | given)
    shown = [settings, settings.rabbitmq_url, getattr(settings, "database_url", None)]
    if isinstance(settings, config.Receive):
        shown.append(settings.endpoint())
    for value in shown:
        assert "s3cret" not in (repr(value) if isinstance(value, str) else show(value))  # a Dsn is its text
        assert str(b"s3cret") not in show(value)
    assert "exchange='relay'" in show(settings), "what is no secret is shown"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HTTP_URL", "https://user:s3cret@h/"),
        ("HTTP_URL", "https:/user:s3cret@h/"),
        ("HTTP_PROXY_URL", "http://user:s3cret@h:3128"),
        ("ODOO_URL", "https://user:s3cret@h/"),
        ("RABBITMQ_URL", "amqp://u:12/s3cret@h/v"),
        ("RABBITMQ_URL", "amqp://u:p#s3cret@h/v"),
        ("RABBITMQ_URL", "amqp://u:p@h/v?password=x@s3cret"),
        ("RABBITMQ_URL", "amqp://u:p?s3cret"),
    ],
)
def test_a_url_with_a_password_where_none_belongs_is_refused_without_showing_it(key: str, value: str) -> None:
    (said,) = problems(targets.load, RECEIVE | (ODOO if key == "ODOO_URL" else {}) | {key: value})
    assert said.startswith(f"{key}=")
    assert "s3cret" not in said


@pytest.mark.parametrize("url", ["postgresql://u:pa@s3cret@h/db", "postgresql://u:12/s3cret@h/db"])
def test_a_dsn_whose_password_would_pose_as_the_host_is_refused(url: str) -> None:
    """libpq reads it, and its message would name the rest of the password as an unknown host."""
    (said,) = problems(listen, LISTEN | {"DATABASE_URL": url})
    assert "write %40" in said
    assert "s3cret" not in said.replace("***@h/db", "")


@pytest.mark.parametrize("host", ["a b", "a..b", ".a", "*.a", "x" * 64, "a\tb", "a:0"])
def test_a_host_that_is_no_name_is_refused_by_every_url(host: str) -> None:
    for key, scheme in (
        ("HTTP_URL", "http"),
        ("ODOO_URL", "https"),
        ("HTTP_PROXY_URL", "http"),
        ("RABBITMQ_URL", "amqp"),
    ):
        (said,) = problems(targets.load, RECEIVE | (ODOO if key == "ODOO_URL" else {}) | {key: f"{scheme}://{host}/"})
        assert said.startswith(f"{key}=")


@pytest.mark.parametrize("host", ["\u2025", "\u2603.example", "a\u2024\u2024b"])
def test_a_host_that_can_not_be_written_in_ascii_is_refused(host: str) -> None:
    (said,) = problems(targets.load, RECEIVE | {"HTTP_URL": f"http://{host}/"})
    assert said.startswith("HTTP_URL=")


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1", "localhost", "a_b.example", "m\u00fcller.example", "x" * 63])
def test_any_other_host_is_taken(host: str) -> None:
    settings = targets.load(None, RECEIVE | {"HTTP_URL": f"http://{host}:80/", "RABBITMQ_URL": f"amqp://{host}"})
    assert settings.rabbitmq_url.host == host.strip("[]")
    targets.make(settings).open().close()


def test_the_example_shows_each_setting_once() -> None:
    """The last one of a file counts: whoever fills in the first of two would wonder."""
    shown = re.findall(r"^#?([A-Z][A-Z_]*)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(set(shown))


def test_every_setting_is_documented_in_the_example_and_the_example_knows_no_other() -> None:
    lines = [line.removeprefix("#") for line in EXAMPLE.read_text().splitlines()]
    shown = {line.partition("=")[0] for line in lines if line.partition("=")[0].isupper() and "=" in line}
    shown = {key for key in shown if key.replace("_", "").isalnum()}
    assert shown == {*setting.keys(config.Listen, config.Receive), *targets.setting_names()}


def test_the_values_shown_in_the_example_are_the_defaults() -> None:
    defaults = {
        field.name.upper(): field.metadata["default"]
        for kind in (config.Listen, *map(_kind, targets.TARGETS))
        for field in dataclasses.fields(kind)
    }
    for line in EXAMPLE.read_text().splitlines():
        key, separator, value = line.removeprefix("#").partition("=")
        if line.startswith("#") and separator and defaults.get(key):
            assert value == defaults[key], key


def test_the_page_of_settings_is_what_the_code_and_the_example_say() -> None:
    assert configuration.PAGE.read_text() == configuration.page(), "run: python -m dev.configuration"


def test_the_page_names_each_setting_once_with_a_value_that_can_be_written() -> None:
    known = configuration.fields()
    rows = [line for line in configuration.page().splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"^\| `([A-Z0-9_]+)`", "\n".join(rows), re.MULTILINE)) == sorted(known)
    for field, _reader in known.values():
        assert len(configuration.value_of(field)) > 5, field.name
