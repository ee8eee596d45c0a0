"""Env files: what stands behind KEY= is the value, or an error says how to write it. And files that settings name."""

from __future__ import annotations

import os
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay import config, setting, targets
from relay.errors import ConfigError
from relay.targets import http
from relay.targets.odoo import mapping_file

GIVEN = {"RABBITMQ_URL": "amqp://u:pw@h/v", "QUEUE": "q", "HTTP_URL": "http://h/"}
PASSWORD = "HTTP_PASSWORD"


def load(tmp_path: Path, text: str | bytes) -> http.Settings:
    env = tmp_path / "e.env"
    env.write_bytes(text.encode() if isinstance(text, str) else text)
    made = targets.load(env, GIVEN)
    assert isinstance(made, http.Settings)
    return made


def problems(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return "\n".join(f"{what} -> {remedy}" for what, remedy in caught.value.problems)


@pytest.mark.parametrize(
    "written",
    ["top #secret", "top\t#secret", "top # secret #", " #secret", "# secret", " top #secret ", "top\u00a0#secret"],
)
def test_an_unquoted_value_with_a_comment_in_it_is_an_error_for_every_key(tmp_path: Path, written: str) -> None:
    for key in [*setting.keys(config.Listen, config.Receive), *targets.setting_names()]:
        prefix = " " if written.startswith("#") else ""
        said = problems(tmp_path, f"{key}={prefix}{written}\n")
        assert f"{key} in {tmp_path}/e.env: what follows ` #`" in said
        assert "write '...' around it" in said
        assert "secret" not in said.replace(str(tmp_path), "").replace("secrets/", "").replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'top #secret'", "top #secret"),
        ('"top #secret"', "top #secret"),
        ("'top #secret' # a comment", "top #secret"),
        ("top#secret", "top#secret"),
        ('a"b', 'a"b'),
        ("it's", "it's"),
        ("a'b'c", "a'b'c"),
        (r"C:\temp\new", r"C:\temp\new"),
        (r"'C:\temp'", r"C:\temp"),
        (r"'it\'s a \\'", "it's a \\"),
        ("two words", "two words"),
        ("trailing   ", "trailing"),
        ("'trailing   '", "trailing   "),
        ("a=b=c", "a=b=c"),
        ("$HOME", "$HOME"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("frame", ["{}={}\n", "export {}={}\n", "{} = {}\n", "\ufeff{}={}\n", "{}={}\r\n", "{}={}"])
def test_what_is_written_is_read(tmp_path: Path, frame: str, written: str, value: str) -> None:
    assert load(tmp_path, frame.format(PASSWORD, written)).http_password == value


def test_a_value_may_begin_with_a_hash(tmp_path: Path) -> None:
    assert load(tmp_path, f"{PASSWORD}=#secret\n").http_password == "#secret"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{PASSWORD}="s3cret', "line 1 of"),
        (f"\n# c\n{PASSWORD}='s3cret'x\n", "line 3 of"),
        (f'{PASSWORD}="a"s3cret"\n', "line 1 of"),
        (f'{PASSWORD}="s3cret\nHTTP_USER=x"\n', "its quotes hold HTTP_USER, too"),
        (f"{PASSWORD}=s3cret-1\n  s3cret-2\n", "line 2 of"),
        (f"{PASSWORD}=s3cret-1\ns3cret+/2==\n", "line 2 of"),
        (f"{PASSWORD}\n", "has no value"),
        (f"{PASSWORD}=s3cret\0x\n", "zero byte"),
        (b"HTTP_PASSWORD=s3cret\xff\n", "not UTF-8"),
    ],
)
def test_what_can_not_be_read_is_an_error_that_shows_no_secret(tmp_path: Path, text: str | bytes, said: str) -> None:
    found = problems(tmp_path, text)
    assert said in found
    assert "s3cret" not in found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.text(st.sampled_from(string.ascii_letters + " \t#'\"\\=$@/:\u00a0é"), max_size=12))
def test_any_value_is_read_as_it_is_written_or_refused(tmp_path: Path, written: str) -> None:
    """Without quotes, but for spaces at its ends; in single quotes, with both characters escaped, every one."""
    try:
        found = load(tmp_path, f"{PASSWORD}={written}\n").http_password
    except ConfigError:
        assert "#" in written or "'" in written or '"' in written
    else:
        assert found == written.strip() or written.strip()[:1] in ("'", '"')
    quoted = written.replace("\\", "\\\\").replace("'", "\\'")
    assert load(tmp_path, f"{PASSWORD}='{quoted}'\n").http_password == written


def test_a_secret_in_a_file_of_its_own_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes("\ufefftop #secret\r\n".encode())
    assert load(tmp_path, f"{PASSWORD}_FILE={tmp_path}/secret\n").http_password == "top #secret"


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def _dangling(path: Path) -> Path:
    path.symlink_to(path.parent / "nothing")
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _no_text(path: Path) -> Path:
    path.write_bytes(b"\xff")
    return path


def _below_a_file(path: Path) -> Path:
    path.write_text("")
    return path / "x"


PATHS: list[tuple[Callable[[Path], Path], str]] = [
    (lambda path: path, "does not exist"),
    (lambda path: path.parent, "Is a directory"),
    (_dangling, "does not exist"),
    (_loop, "Too many levels of symbolic links"),
    (lambda path: path.with_name("x" * 300), "File name too long"),
    (_below_a_file, "Not a directory"),
    (_pipe, "is a pipe"),
    (lambda _path: Path("/dev/urandom"), "is a device"),
]


@pytest.mark.parametrize(("make", "said"), [*PATHS, (_no_text, "not UTF-8")])
def test_a_path_that_will_not_do_is_one_line_wherever_it_stands(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    path = make(tmp_path / "it")
    with pytest.raises(ConfigError) as caught:
        targets.load(path, GIVEN)
    assert f"env file {path} " in str(caught.value)
    assert said in str(caught.value)
    with pytest.raises(ConfigError, match=said):
        mapping_file.load(str(path))
    keys = ["HTTP_PASSWORD_FILE"] + ([] if make is _no_text else ["HTTP_CA_FILE", "ODOO_MAPPING", "RABBITMQ_CA_FILE"])
    for key in keys:
        with pytest.raises(ConfigError) as caught:
            targets.load(None, GIVEN | {"TARGET": "odoo-load" if key == "ODOO_MAPPING" else "http", key: str(path)})
        assert f"{key}={path}" in str(caught.value)
        assert said in str(caught.value)


def test_a_zero_byte_or_what_is_no_utf8_is_one_line(tmp_path: Path) -> None:
    """Also in a secret's file, and in the environment, whose bytes Python keeps as surrogates."""
    (tmp_path / "secret").write_bytes(b"s3cret\0x")
    own = {"HTTP_CA_FILE": "/a\0b", "HTTP_PASSWORD": "s3cret\udcff", "HTTP_TOKEN_FILE": f"{tmp_path}/secret"}
    for key, value in own.items():
        with pytest.raises(
            ConfigError, match=f"{key.removesuffix('_FILE') if 'TOKEN' in key else key} is no UTF-8"
        ) as caught:
            targets.load(None, GIVEN | {key: value})
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError, match="zero byte"):
        targets.load(tmp_path / "a\0b", GIVEN)


def test_a_dangling_config_env_beside_the_script_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.env").symlink_to(tmp_path / "nothing")
    assert setting.env_file(None, str(tmp_path / "listen.py")) == tmp_path / "config.env"


@pytest.mark.parametrize(("mode", "told"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_a_file_with_secrets_that_others_may_read_is_found(tmp_path: Path, mode: int, told: bool) -> None:
    env, token, key, plain = (tmp_path / name for name in ("e.env", "token", "key.pem", "plain.env"))
    env.write_text(f"{PASSWORD}=s3cret\nHTTP_TOKEN_FILE={token}\nHTTP_KEY_FILE={key}\n")
    plain.write_text("LOG_LEVEL=info\n")
    for path in (token, key):
        path.write_text("s3cret")
    for path in (env, token, key, plain):
        path.chmod(mode)
    assert setting.read_by_others(http.Settings, env, {}) == ([env, token, key] if told else [])
    assert setting.read_by_others(http.Settings, None, {"HTTP_TOKEN_FILE": str(token)}) == ([token] if told else [])
    assert setting.read_by_others(http.Settings, plain, {}) == [], "it holds none"
