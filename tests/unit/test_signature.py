"""Signatures are HMAC-SHA256 over what docs/delivery.md says, and a command's are good for a while, once."""

from __future__ import annotations

import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.signature import COMMAND_SECONDS, Guard, Signer, command_key, sign_command

SECRET = b"a secret of the two of them"
Fields = tuple[str, str, str, str, str, str]
FIELDS = st.tuples(*[st.text(max_size=20)] * 6)


@given(st.binary(min_size=1, max_size=150), FIELDS, st.binary(max_size=200))
def test_an_events_signature_is_an_hmac(secret: bytes, fields: Fields, body: bytes) -> None:
    signed = "".join(f"{field}\0" for field in fields).encode() + body
    assert Signer(secret).sign(fields, body) == hmac.new(secret, signed, "sha256").hexdigest()


@given(FIELDS, st.binary(max_size=20), FIELDS, st.binary(max_size=20))
def test_no_two_events_share_a_signature(one: Fields, body: bytes, other: Fields, its: bytes) -> None:
    signed, same = Signer(SECRET).sign(one, body), (one, body) == (other, its)
    assert Signer(SECRET).is_signed(other, its, signed) is (same and "\0" not in "".join(one))


def test_a_nul_can_not_move_from_one_field_into_the_next() -> None:
    signed = Signer(SECRET).sign(("t", "id", "update", "public.t", "key", "1"), b"body")
    assert not Signer(SECRET).is_signed(("t", "id", "update\0public.t", "key", "1", "body"), b"", signed)


def objection(expires: int, *, secret: bytes = SECRET, queue: str = "odoo.control", nonce: str = "n") -> str:
    given = sign_command(secret, queue, nonce, expires, b"{}")
    return Guard(SECRET, "odoo.control").objection("n", expires, b"{}", given)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({}, ""),
        ({"secret": b"another secret, also long"}, "wrong"),
        ({"queue": "other.control"}, "wrong"),
        ({"nonce": "m"}, "wrong"),
    ],
)
def test_a_command_is_believed_with_the_secret_and_for_this_queue_and_asker(made: dict[str, str], says: str) -> None:
    assert says in objection(int(time.time()) + COMMAND_SECONDS, **made)  # type: ignore[arg-type]
    assert bool(objection(int(time.time()) + COMMAND_SECONDS, **made)) is bool(says)  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [-COMMAND_SECONDS - 1, -1_000_000, 2 * COMMAND_SECONDS + 1, 2**62])
def test_a_signature_is_good_for_a_while_only(late: int) -> None:
    assert "expired" in objection(int(time.time()) + late)


def test_a_signature_is_good_once() -> None:
    guard, expires = Guard(SECRET, "odoo.control"), int(time.time()) + COMMAND_SECONDS
    given = sign_command(SECRET, "odoo.control", "n", expires, b"{}")
    assert guard.objection("n", expires, b"{}", given) == ""
    assert "used before" in guard.objection("n", expires, b"{}", given)


def test_a_command_costs_no_more_after_ten_thousand_others() -> None:
    """As many come in ten seconds: gets of applications. Each one's signature is remembered for two minutes."""
    guard, expires = Guard(SECRET, "odoo.control"), int(time.time()) + COMMAND_SECONDS
    signed = [(str(n), sign_command(SECRET, "odoo.control", str(n), expires, b"{}")) for n in range(10_000)]
    took = []
    for start in range(0, len(signed), 500):
        began = time.process_time()
        assert not any(guard.objection(nonce, expires, b"{}", given) for nonce, given in signed[start : start + 500])
        took.append(time.process_time() - began)
    assert took[-1] < 8 * took[0]


def test_what_was_seen_is_forgotten_once_it_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, now = Guard(SECRET, "odoo.control"), time.time()
    for second in range(500):
        monkeypatch.setattr(time, "time", lambda second=second: now + second)
        expires = int(now) + second + COMMAND_SECONDS
        given = sign_command(SECRET, "odoo.control", "n", expires, b"{}")
        assert guard.objection("n", expires, b"{}", given) == ""
        assert "used before" in guard.objection("n", expires, b"{}", given)
    assert len(guard._seen) <= 2 * COMMAND_SECONDS + 1


def test_what_was_signed_before_is_not_good_for_the_next_daemon() -> None:
    """Whoever has seen a command may send it again to the successor, which has not."""
    assert "before this daemon began" in objection(int(time.time()) + COMMAND_SECONDS - 5)


def test_a_command_for_one_vhost_is_not_good_in_another() -> None:
    keys = {command_key(SECRET, vhost) for vhost in ("/", "erp", "erp2")}
    assert len(keys) == 3
    assert SECRET not in keys
    assert command_key(b"", "/") == b""


@pytest.mark.parametrize("given", [None, "", 5, b"\xff", ["a"], "é" * 64])
def test_a_command_without_a_signature_is_not_believed(given: object) -> None:
    assert Guard(SECRET, "odoo.control").objection("n", int(time.time()), b"{}", given)
