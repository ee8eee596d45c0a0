"""consumers.toml: many consumers in one file, over an env file of defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay import config, consumers, setting, targets
from relay.consumers import Consumer
from relay.errors import ConfigError

TOML = """
[mail]
TARGET = "http"
HTTP_URL = "http://mail.lan/"
BINDING_KEYS = ["public.orders", "shop.#"]
WORKERS = 8
CONTROL = false
RETRY_MIN = 0.5
HTTP_TOKEN_FILE = "TOKEN"

[search]
QUEUE = "search.orders"
HTTP_URL = "http://search.lan/$HOME#x"
"""
ENV = "RABBITMQ_URL=amqp://u:pw@h/v\nQUEUE=others\nHTTP_TOKEN=ofall\nWORKERS=2\nMAX_ATTEMPTS=3\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("ofmail\n")
    (tmp_path / "config.env").write_text(ENV)
    (tmp_path / "consumers.toml").write_text(TOML.replace("TOKEN", str(tmp_path / "token"), 2).replace(
        f"HTTP_{tmp_path / 'token'}_FILE", "HTTP_TOKEN_FILE"))  # fmt: skip
    return tmp_path / "consumers.toml"


def load(file: Path, name: str, environ: dict[str, str] | None = None) -> config.Receive:
    return targets.load(consumers.find(name, file, None), environ or {})


def problems(file: Path, name: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, name)
    return [f"{what} -> {remedy}" for what, remedy in caught.value.problems]


def test_a_section_stands_over_the_env_file_and_the_environment_over_both(file: Path) -> None:
    mail = load(file, "mail", {"WORKERS": "16"})
    assert (mail.queue, mail.workers, mail.max_attempts, mail.control) == ("mail", 16, 3, False)
    assert mail.binding_keys == ("public.orders", "shop.#")
    assert mail.http_token.now() == "ofmail", "a secret's file wins over the defaults' secret"
    assert mail.retry_min == 0.5
    search = load(file, "search")
    assert (search.queue, search.workers) == ("search.orders", 2)
    assert search.http_token.now() == "ofall"
    assert getattr(search, "http_url", "") == "http://search.lan/$HOME#x", "no character means anything"


def test_its_own_env_file_is_taken_as_ever_where_there_is_no_section(file: Path) -> None:
    own = file.parent / "old.env"
    own.write_text("QUEUE=old\n")
    assert consumers.find("old", file, None) == own
    assert consumers.find("old", file.parent / "none.toml", None) == own
    own.rename(file.parent / "mail.env")
    with pytest.raises(ConfigError, match=r"consumer mail is both in .*consumers.toml and in .*mail.env"):
        consumers.find("mail", file, None)
    assert isinstance(consumers.find("mail", file, file.parent / "config.env"), Consumer)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('WORKERS = "x"', ["[mail] WORKERS=x: out of range"]),
        (
            'WORKRS = 3\nHTTP_ULR = "u"',
            ["[mail] WORKRS is no setting of the relay -> did you mean WORKERS?", "HTTP_URL?"],
        ),
        ('workers = "s3cret"', ["[mail] workers is no setting of the relay -> did you mean WORKERS?"]),
        ("WORKERS = { a = 1 }", ["[mail] WORKERS is no text"]),
        ('BINDING_KEYS = ["a,b"]', ["[mail] BINDING_KEYS is no text"]),
        ("WORKERS = 2026-01-01", ["[mail] WORKERS is no text"]),
        ("RETRY_MIN = 99\nRETRY_MAX = 1", ["[mail] RETRY_MIN is above RETRY_MAX"]),
        ('HTTP_TOKEN = "a"\nHTTP_TOKEN_FILE = "b"', ["[mail] both HTTP_TOKEN and HTTP_TOKEN_FILE are set"]),
    ],
)
def test_what_is_wrong_names_the_section_and_the_key(tmp_path: Path, text: str, told: list[str]) -> None:
    (tmp_path / "config.env").write_text("RABBITMQ_URL=amqp://h\nHTTP_URL=http://h\n")
    file = tmp_path / "consumers.toml"
    file.write_text(f"[mail]\n{text}\n")
    found = problems(file, "mail")
    assert len(found) == len(told), found
    for line, expected in zip(found, told, strict=True):
        assert expected in line
        assert "s3cret" not in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[mail]\nHTTP_TOKEN = "s3cret', "can't be read at"),
        ("[mail\n", "can't be read at line 1"),
        ("\xff", "can't be read"),
        ('QUEUE = "s3cret"\n[mail]\n', "QUEUE stands in no section"),
        ('["a b"]\n[mail]\n', "[a b] is no name of a consumer"),
        ('[mail]\n[other]\nQUEUE = "mail"\n', "[mail] and [other] have the queue mail"),
        ("[other]\n", "has no consumer mail -> write [mail] there; it has: other"),
        ("", "it has: none"),
        ("a = " + "[" * 5000 + "]" * 5000 + "\n[mail]\n", ""),
    ],
)
def test_what_is_wrong_with_the_file_is_told_without_its_values(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "consumers.toml"
    file.write_bytes(text.encode("latin-1"))
    (line, *_rest) = problems(file, "mail")
    assert told in line
    assert "s3cret" not in line


def test_without_any_file_both_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither .*mail.env nor .*consumers.toml is there"):
        consumers.find("mail", tmp_path / "consumers.toml", None)


def test_a_file_with_secrets_that_everybody_may_read_is_named(file: Path) -> None:
    (file.parent / "config.env").chmod(0o600)
    (file.parent / "token").chmod(0o600)
    source = consumers.find("mail", file, None)
    kind = type(load(file, "mail"))
    assert setting.read_by_others(kind, source, {}) == []
    file.write_text(file.read_text().replace("HTTP_TOKEN_FILE", "HTTP_TOKEN"))
    assert setting.read_by_others(kind, source, {}) == [file]


def test_all_of_them(file: Path) -> None:
    assert [one.name for one in consumers.every(file, None)] == ["mail", "search"]


def test_lanes_share_a_queue_and_each_is_there_once(tmp_path: Path) -> None:
    file = tmp_path / "consumers.toml"
    rest = 'RABBITMQ_URL = "amqp://u:pw@h/v"\nHTTP_URL = "http://h/"\n'
    lanes = "".join(f'[odoo-{lane}]\nQUEUE = "odoo"\nLANE = "{lane}/2"\n{rest}' for lane in range(2))
    file.write_text(lanes)
    found = [load(file, f"odoo-{lane}") for lane in range(2)]
    assert [(one.queue, str(one.lane)) for one in found] == [("odoo", "0/2"), ("odoo", "1/2")]
    file.write_text(lanes.replace("1/2", "0/2"))
    with pytest.raises(ConfigError, match=r"\[odoo-0\] and \[odoo-1\] have the queue odoo and the lane 0/2"):
        load(file, "odoo-0")


def test_all_of_none_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "consumers.toml"
    file.write_text("# [mail]\n")
    with pytest.raises(ConfigError, match="has no consumer"):
        consumers.every(file, None)
