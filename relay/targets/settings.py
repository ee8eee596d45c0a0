"""Settings of whatever sends by HTTP, and the kinds of value they can have (as in relay/values.py)."""

import base64
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from relay import urls, values
from relay.config import Receive
from relay.ops import OPS
from relay.setting import setting
from relay.targets.filters import Unknown
from relay.targets.template import check

SECRET_HEADER = re.compile("auth|token|key|secret|cookie|pass", re.IGNORECASE)
"""Names of headers whose values are shown to nobody."""

PerOp = Mapping[str, str]
"""A word for each op (insert, update ...); the one for "" holds for those that are not named."""

Success = Mapping[str, frozenset[int]]
"""Statuses that are success for each op, those for all ops included; the one for "" as in PerOp."""


def _per_op(value: str, wanted: str) -> list[tuple[str, str]]:
    """Words separated by spaces or commas, each for all ops or, as `delete:WORD`, for one."""
    found = []
    for word in re.split(r"[\s,]+", value.strip()):
        op, _, own = word.rpartition(":")
        if op and op not in OPS:
            raise values.Invalid(f"{op[:20]} is no op", f"{wanted}; ops: {' '.join(OPS)}")
        found.append((op, own))
    return found


def http_method(value: str) -> PerOp:
    """A method, and others for single ops: `PUT delete:DELETE`."""
    wanted = "write a method, then op:METHOD where one differs, e.g. PUT delete:DELETE"
    found = dict(_per_op(value, wanted))
    if "" not in found or not all(re.fullmatch(r"[A-Z]{1,20}", method) for method in found.values()):
        raise values.Invalid("no HTTP method", wanted)
    return found


def success_status(value: str) -> Success:
    """HTTP statuses that count as success: `200 201 delete:404`."""
    wanted = "write statuses from 200 to 499, e.g. 200 201 delete:404"
    found: dict[str, set[int]] = {}
    for op, status in _per_op(value, wanted):
        if not re.fullmatch(r"[234][0-9][0-9]", status):
            raise values.Invalid("no HTTP status that can be a success", wanted)
        found.setdefault(op, set()).add(int(status))
    common = found.get("", set())
    return {"": frozenset(common)} | {op: frozenset(own | common) for op, own in found.items() if op}


class SuccessBody(NamedTuple):
    """What the body of a success contains, and what it does not; without white space."""

    has: tuple[bytes, ...]
    lacks: tuple[bytes, ...]


def success_body(value: str) -> SuccessBody:
    """Texts with ` & ` between them, `!` before those that must not be there: `"ok":true & !"error"`."""
    texts = [text.strip() for text in value.split(" & ") if text.strip()]
    if "!" in texts:
        raise values.Invalid("no text after !", "write the text that the answer must not contain: !error")
    has = tuple(without_space(text.encode()) for text in texts if not text.startswith("!"))
    return SuccessBody(has, tuple(without_space(text[1:].encode()) for text in texts if text.startswith("!")))


def without_space(text: bytes) -> bytes:
    """So that it does not matter how a server writes its JSON."""
    return b"".join(text.split())


def http_headers(value: str) -> tuple[tuple[str, str], ...]:
    """Extra headers as a JSON object; values are templates."""
    wanted = 'write a JSON object on one line, e.g. {"X-Title": "{table}"}'
    if not value:
        return ()
    try:
        found = json.loads(value)
    except ValueError:
        raise values.Invalid("not JSON", wanted) from None
    names_ok = isinstance(found, dict) and all(re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) for name in found)
    if not names_ok or not all(isinstance(text, str) for text in found.values()):
        raise values.Invalid("not an object of header names and texts", wanted)
    for text in found.values():
        header_text(template(text))
    return tuple(found.items())


def template(value: str) -> str:
    """A text with fields of the event."""
    try:
        check(value)
    except Unknown as error:
        raise values.Invalid(str(error), "docs/delivery.md, Recipes, has the filters") from None
    return value


def header_text(value: str) -> str:
    """What can stand in a header of HTTP as it is (RFC 9110, 5.5)."""
    if not value.isprintable() or any(c > "\xff" for c in value):
        raise values.Invalid("can't be sent in a header", "write printable Latin-1 characters")
    return value


def webhook_secret(value: str) -> bytes:
    """A Standard Webhooks secret: whsec_ and base64, 24 to 64 bytes."""
    wanted = "write whsec_ followed by base64 of 24 to 64 random bytes: echo whsec_$(openssl rand -base64 32)"
    if not value:
        return b""
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise values.Invalid("not base64", wanted) from None
    if not 24 <= len(key) <= 64:
        raise values.Invalid("too short or too long", wanted)
    return key


def proxy_url(value: str) -> str:
    """The URL of an HTTP proxy; empty = none."""
    if urlsplit(urls.http_url(value)).scheme not in ("", "http"):
        raise values.Invalid(
            "no proxy that is spoken to without TLS", "write http://host:port; https URLs are tunnelled"
        )
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverHttp(Receive):
    """How requests are sent. Units: seconds."""

    http_ca_file: str = setting(values.existing_file, "")
    http_cert_file: str = setting(values.existing_file, "")
    http_key_file: str = setting(values.existing_file, "", private=True)
    http_proxy_url: str = setting(proxy_url, "")
    http_time_limit: float = setting(values.seconds(0, 86_400), "120")
    http_connect_timeout: float = setting(values.seconds(0.1, 300), "5")
    http_read_timeout: float = setting(values.seconds(0.1, 3600), "130")
