"""What Odoo answers to all but `load`, asked of the stand-in, and with ODOO_URL (make test-odoo) of a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from dev.doubles.odoo.client import SECONDS, Refused
from dev.doubles.odoo.handle import Odoo, Standin

ALL = pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
BOTH = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
ON_19 = pytest.mark.parametrize("odoo", ["19"], indirect=True)


def refusal(call: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as refused:
        call()
    return refused.value


def json2(odoo: Odoo, path: str, body: Any = None, **changes: str) -> requests.Response:
    """JSON-2; `changes` are headers."""
    headers = {"Authorization": f"bearer {odoo.api_key}", "X-Odoo-Database": odoo.database, **changes}
    return requests.post(f"{odoo.url}/json/2/{path}", json=body, headers=headers, timeout=SECONDS)


def rpc(odoo: Odoo, service: str, method: str, *args: Any) -> requests.Response:
    body = {"jsonrpc": "2.0", "method": "call", "id": 7, "params": {"service": service, "method": method, "args": args}}
    return requests.post(f"{odoo.url}/jsonrpc", json=body, timeout=SECONDS)


def told(response: requests.Response) -> tuple[int, str]:
    """JSON-RPC: the code and the name of the error."""
    assert response.status_code == 200
    error = response.json()["error"]
    assert error["message"] == "Odoo Server Error"
    assert set(error["data"]) == {"name", "message", "arguments", "context", "debug"}
    return error["code"], error["data"]["name"]


@ALL
def test_json_rpc_answers_200_to_every_failure(odoo: Odoo) -> None:
    code = {"17": 200, "19": 0}[odoo.like]
    uid = rpc(odoo, "common", "authenticate", odoo.database, odoo.login, odoo.api_key, {}).json()["result"]
    assert isinstance(uid, int)
    assert rpc(odoo, "common", "authenticate", odoo.database, odoo.login, "wrong", {}).json()["result"] is False
    find = ("res.partner", "search", [[]])
    assert told(rpc(odoo, "object", "execute_kw", odoo.database, uid, "wrong", *find)) == (
        code,
        "odoo.exceptions.AccessDenied",
    )
    assert told(rpc(odoo, "object", "execute_kw", "nodb", uid, odoo.api_key, *find)) == (
        code,
        "psycopg2.OperationalError",
    )
    unknown = "builtins.UnboundLocalError" if odoo.version in ("14", "15") else "builtins.KeyError"
    assert told(rpc(odoo, "nothing", "x")) == (code, unknown)
    calls = [
        ("no.model", "search", [[]], "odoo.exceptions.UserError"),
        ("res.partner", "no_method", [], "builtins.AttributeError"),
        ("res.partner", "_write", [], "odoo.exceptions.AccessError"),
        ("res.partner", "search", [], "builtins.TypeError"),
        ("res.partner", "create", [{"name": "x", "nofield": 1}], "builtins.ValueError"),
        ("res.partner", "write", [[999999999], {"name": "x"}], "odoo.exceptions.MissingError"),
    ]
    for model, method, args, name in calls:
        answer = rpc(odoo, "object", "execute_kw", odoo.database, uid, odoo.api_key, model, method, args)
        assert told(answer) == (code, name), (model, method)


@ALL
def test_json_rpc_shows_nothing_where_a_method_returns_nothing(odoo: Odoo) -> None:
    uid = rpc(odoo, "common", "authenticate", odoo.database, odoo.login, odoo.api_key, {}).json()["result"]
    made = odoo.client().call("res.partner", "create", vals_list=[{"name": "x"}])
    args = (odoo.database, uid, odoo.api_key, "res.partner", "action_archive", [made])
    assert rpc(odoo, "object", "execute_kw", *args).json() == {"jsonrpc": "2.0", "id": 7}


@ON_19
@pytest.mark.parametrize(
    ("path", "body", "status", "name"),
    [
        ("no.model/search", {"domain": []}, 404, "werkzeug.exceptions.NotFound"),
        ("res.partner/no_method", {}, 404, "werkzeug.exceptions.NotFound"),
        ("res.partner", {}, 404, "werkzeug.exceptions.NotFound"),
        ("res.partner/_write", {}, 403, "odoo.exceptions.AccessError"),
        ("res.partner/search", {}, 422, "werkzeug.exceptions.UnprocessableEntity"),
        ("res.partner/search", {"domain": [], "ids": [1]}, 422, "werkzeug.exceptions.UnprocessableEntity"),
        ("res.partner/create", {"vals_list": [{}]}, 422, "odoo.exceptions.ValidationError"),
        ("res.partner/create", {"vals_list": [{"name": "x", "nofield": 1}]}, 500, "builtins.ValueError"),
        ("res.partner/create", {"vals_list": [{"name": "x", "color": "many"}]}, 500, "builtins.ValueError"),
        ("res.partner/write", {"ids": [999999999], "vals": {}}, 404, "odoo.exceptions.MissingError"),
        ("res.partner/unlink", {"ids": [999999999]}, 404, "odoo.exceptions.MissingError"),
        ("res.partner/load", {"fields": ["id", "no"], "data": [["x", "y"]]}, 500, "builtins.ValueError"),
        ("ir.model.data/check_object_reference", {"module": "base", "xml_id": "zz"}, 500, "builtins.ValueError"),
        ("res.partner/search", {"domain": [], "context": {"lang": "xx_YY"}}, 422, "odoo.exceptions.UserError"),
    ],
)
def test_json_2_names_the_exception(odoo: Odoo, path: str, body: Any, status: int, name: str) -> None:
    answer = json2(odoo, path, body)
    assert (answer.status_code, answer.json()["name"]) == (status, name)
    assert set(answer.json()) == {"name", "message", "arguments", "context", "debug"}
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


@ON_19
def test_json_2_wants_a_key_and_json(odoo: Odoo) -> None:
    wrong = json2(odoo, "res.partner/search", {"domain": []}, Authorization="bearer wrong")
    assert (wrong.status_code, wrong.json()["name"]) == (401, "werkzeug.exceptions.Unauthorized")
    assert wrong.headers["WWW-Authenticate"].strip() == "Bearer"
    headers = {"Authorization": f"bearer {odoo.api_key}", "X-Odoo-Database": odoo.database}
    url = f"{odoo.url}/json/2/res.partner/search"
    bad = requests.post(url, data="{", headers={**headers, "Content-Type": "application/json"}, timeout=SECONDS)
    assert (bad.status_code, bad.json()["name"]) == (400, "werkzeug.exceptions.BadRequest")
    text = requests.post(url, data="{}", headers={**headers, "Content-Type": "text/plain"}, timeout=SECONDS)
    assert (text.status_code, text.headers["Content-Type"]) == (415, "text/html; charset=utf-8")


@ON_19
def test_json_2_answers_an_unknown_database_with_a_page(odoo: Odoo) -> None:
    answer = json2(odoo, "res.partner/search", {"domain": []}, **{"X-Odoo-Database": "nodb"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("odoo", ["14", "17"], indirect=True)
def test_17_has_no_json_2(odoo: Odoo) -> None:
    answer = json2(odoo, "res.partner/search", {"domain": []})
    status = 200 if odoo.version == "18" else 404  # 18 shows its page for the login
    kind = "application/json" if odoo.version in ("14", "15") else "text/html;charset=utf-8"
    assert (answer.status_code, answer.headers["Content-Type"].replace(" ", "")) == (status, kind)
    if odoo.version == "14":
        assert answer.json()["error"]["data"]["name"] == "werkzeug.exceptions.NotFound"


@ALL
def test_the_version_is_told_without_a_login(odoo: Odoo) -> None:
    answer = requests.post(f"{odoo.url}/web/webclient/version_info", json={"params": {}}, timeout=SECONDS).json()
    assert answer["result"]["server_version_info"][0] == int(odoo.version)
    assert answer["result"] == odoo.client().version()


@ALL
def test_health(odoo: Odoo) -> None:
    if odoo.version == "14":
        assert requests.get(f"{odoo.url}/web/health", timeout=SECONDS).status_code == 404
        return
    assert requests.get(f"{odoo.url}/web/health", timeout=SECONDS).json() == {"status": "pass"}
    answer = requests.get(f"{odoo.url}/web/health?db_server_status=1", timeout=SECONDS)
    status = {"db_server_status": True} if int(odoo.version) > 16 else {}
    assert answer.json() == {"status": "pass", **status}


@ALL
def test_external_ids_are_resolved(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    (key,) = client.load("res.partner", ["id", "name", "active"], [[one, "name", "0"]])["ids"]
    look = {"module": "__import__", "xml_id": one}
    assert client.call("ir.model.data", "check_object_reference", **look) == ["res.partner", False]  # it is archived
    shown = client.call("ir.model.data", "check_object_reference", **look, context={"active_test": False})
    assert shown == ["res.partner", key]
    domain = [["model", "=", "res.partner"], ["module", "=", "__import__"], ["name", "in", [one]]]
    (found,) = client.call("ir.model.data", "search_read", domain=domain, fields=["module", "name", "res_id"], limit=1)
    assert (found["module"], found["name"], found["res_id"]) == ("__import__", one, key)
    escaped = one.replace("_", r"\_")
    domain = [["model", "=", "res.partner"], ["name", "=like", f"{escaped[:-1]}%"], ["id", ">", 0]]
    assert client.call("ir.model.data", "search", domain=domain, order="id", limit=5) == [found["id"]]


@ALL
def test_a_search_takes_its_argument_by_a_name_that_differs(odoo: Odoo) -> None:
    uid = rpc(odoo, "common", "authenticate", odoo.database, odoo.login, odoo.api_key, {}).json()["result"]
    body = (odoo.database, uid, odoo.api_key, "res.partner", "search")
    for name in ("domain", "args"):
        answer = rpc(odoo, "object", "execute_kw", *body, [], {name: [], "limit": 1})
        if (name == "args") == (odoo.version in ("14", "15")):
            assert len(answer.json()["result"]) == 1
        else:
            assert told(answer)[1] == "builtins.TypeError"


@ALL
def test_a_record_that_others_need_is_not_unlinked(odoo: Odoo) -> None:
    client = odoo.client()
    (key,) = client.call("res.country", "search", domain=[["code", "=", "US"]])
    refused = refusal(lambda: client.call("res.country", "unlink", [key]))
    assert refused.name == "odoo.exceptions.ValidationError"
    restricts = 'violates RESTRICT setting of foreign key constraint "res_country_state_country_id_fkey"'
    before_18 = "Constraint: res_country_state_country_id_fkey" if odoo.like == "17" else "Another model is using"
    assert restricts in refused.message or before_18 in refused.message  # of PostgreSQL


@ALL
def test_fields_and_rights_are_told(odoo: Odoo) -> None:
    client = odoo.client()
    asked = ["type", "required", "readonly", "relation", "selection"]
    fields = client.call("res.partner", "fields_get", attributes=asked)
    wanted = {"readonly": False, "required": False}
    assert fields["country_id"] == {"type": "many2one", "relation": "res.country", **wanted}
    assert fields["category_id"] == {"type": "many2many", "relation": "res.partner.category", **wanted}
    assert fields["name"] == {"type": "char", **wanted}  # although it is required: by a constraint
    types = {"contact", "invoice", "delivery", "other"} | ({"private"} if int(odoo.version) < 17 else set())
    assert {one for one, _ in fields["type"]["selection"]} == types
    assert fields["id"]["readonly"]
    state = client.call("res.country.state", "fields_get", attributes=asked)
    assert state["country_id"]["required"]
    assert client.call("res.partner", "check_access_rights", operation="write", raise_exception=False) is True


@ON_19
def test_19_has_has_access_and_tells_how_long_a_key_lives(odoo: Odoo) -> None:
    client = odoo.client()
    assert client.call("res.partner", "has_access", [], operation="write") is True
    (key, *_) = client.call("res.users.apikeys", "search_read", domain=[], fields=["name", "expiration_date"])
    time.strptime(key["expiration_date"], "%Y-%m-%d %H:%M:%S")


@ALL
def test_default_get_takes_its_argument_by_position_or_by_a_name_that_differs(odoo: Odoo) -> None:
    client = odoo.client(json2=False)
    refused = refusal(lambda: client.call("res.partner", "default_get", fields_list=["type"]))
    assert (refused.name, "fields_list" in refused.message) == ("builtins.TypeError", True)
    assert client.call("res.partner", "default_get", ["type", "name"]) == {"type": "contact"}


@BOTH
def test_a_webhook_that_fails_has_committed(odoo: Odoo) -> None:
    path, name = odoo.hook(), f"{odoo.unique}hooked"
    client = odoo.client()
    named = {"X-Odoo-Database": odoo.database}
    good = requests.post(odoo.url + path, json={"name": name}, headers=named, timeout=SECONDS)
    assert (good.status_code, good.json()) == (200, {"status": "ok"})
    bad = requests.post(odoo.url + path, json={"name": name, "fail": True}, headers=named, timeout=SECONDS)
    assert (bad.status_code, bad.json()) == (500, {"status": "error"})
    assert client.call("res.partner", "search_count", domain=[["name", "=", name]]) == 2
    nowhere = f"{odoo.url}/web/hook/00000000-0000-0000-0000-000000000000"
    unknown = requests.post(nowhere, json={}, headers=named, timeout=SECONDS)
    assert (unknown.status_code, unknown.json()) == (404, {"status": "error"})


@ALL
def test_concurrent_loads_of_the_same_rows_conflict_and_are_not_tried_again(odoo: Odoo) -> None:
    client, rows = odoo.client(), [[f"{odoo.unique}{n}", "x"] for n in range(40)]
    assert client.load("res.partner", ["id", "name"], rows)["ids"]
    if isinstance(odoo, Standin):
        odoo.break_("conflict", times=1)
    answers: list[Any] = []

    def work(number: int) -> None:
        mine = odoo.client()
        answers.extend(
            mine.load("res.partner", ["id", "name"], [[one, f"{number}{turn}"] for one, _ in rows]) for turn in range(5)
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer["ids"] is False]
    assert refused
    assert all("could not serialize access" in answer["messages"][0]["message"] for answer in refused)
    assert all(answer["messages"][0]["record"] == 0 for answer in refused)


# What breaks the server: the stand-in only.


@BOTH
def test_without_its_database(odoo: Odoo) -> None:
    odoo.break_("database")
    assert requests.get(f"{odoo.url}/web/health", timeout=SECONDS).status_code == 200
    sick = requests.get(f"{odoo.url}/web/health?db_server_status=1", timeout=SECONDS)
    assert (sick.status_code, sick.json()) == (500, {"status": "fail", "db_server_status": False})
    assert odoo.client().version()
    assert told(rpc(odoo, "common", "authenticate", odoo.database, odoo.login, odoo.api_key, {}))[1] == (
        "psycopg2.OperationalError"
    )
    hook = requests.post(f"{odoo.url}/web/hook/00000000-0000-0000-0000-000000000000", json={}, timeout=SECONDS)
    assert (hook.status_code, hook.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    if odoo.like == "19":
        answer = json2(odoo, "res.partner/search", {"domain": []})
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    odoo.mend()
    assert odoo.client().call("res.partner", "search", domain=[])


@BOTH
def test_a_client_that_goes_away_does_not_stop_the_work(odoo: Odoo) -> None:
    odoo.break_("slow", before=0.3, times=1, method="load")
    one = f"{odoo.unique}1"
    hasty = odoo.client(seconds=0.1)
    with pytest.raises(requests.Timeout):
        hasty.load("res.partner", ["id", "name"], [[one, "late"]])
    assert odoo.record("res.partner", one) is None
    deadline = time.monotonic() + 10
    while odoo.record("res.partner", one) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@BOTH
def test_a_revoked_key_an_expired_session_a_proxy_a_reset(odoo: Odoo) -> None:
    client = odoo.client()
    find: Callable[[], object] = lambda: client.call("res.partner", "search", domain=[])  # noqa: E731
    assert find()
    odoo.break_("key", times=1)
    assert (
        refusal(find).name
        == {"17": "odoo.exceptions.AccessDenied", "19": "werkzeug.exceptions.Unauthorized"}[odoo.like]
    )
    odoo.break_("session", times=1)
    assert refusal(find).name == "odoo.http.SessionExpiredException"
    odoo.break_("status", status=429, headers={"Retry-After": "7"}, times=1)
    assert requests.get(odoo.url, timeout=SECONDS).headers["Retry-After"] == "7"
    odoo.break_("reset", times=1)
    with pytest.raises(requests.ConnectionError):
        find()
    assert find()


@BOTH
def test_the_order_of_requests_is_kept_for_the_test(odoo: Odoo) -> None:
    client = odoo.client()
    client.load("res.partner", ["id", "name"], [["a", "A"], ["b", "B"]])
    odoo.records("res.partner")  # the test's own looks are not counted
    (seen,) = odoo.requests(method="load")
    assert (seen["model"], seen["rows"], seen["status"]) == ("res.partner", 2, 200)
    odoo.forget_requests()
    assert odoo.requests() == []


@pytest.mark.parametrize("odoo", [{"version": "19", "call": 0.1, "row": 0.01, "workers": 1}], indirect=True)
def test_it_takes_its_time(odoo: Odoo) -> None:
    client = odoo.client()
    began = time.monotonic()
    client.load("res.partner", ["id", "name"], [[f"p{n}", "x"] for n in range(10)])
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("odoo", [{"version": "19", "databases": "one,two"}], indirect=True)
def test_with_several_databases_one_has_to_be_named(odoo: Odoo) -> None:
    assert odoo.client().load("res.partner", ["id", "name"], [["only_one", "x"]])["ids"]
    assert json2(odoo, "res.partner/search", {"domain": []}, **{"X-Odoo-Database": ""}).status_code == 404
    domain = [["complete_name", "=", "__import__.only_one"]]
    counted = json2(odoo, "ir.model.data/search_count", {"domain": domain}, **{"X-Odoo-Database": "two"})
    assert counted.status_code == 401  # a key is of its database


@pytest.mark.parametrize("odoo", [{"version": "17", "close": True}], indirect=True)
def test_a_prefork_worker_closes_after_each_answer(odoo: Odoo) -> None:
    answer = requests.get(f"{odoo.url}/web/health", timeout=SECONDS)
    assert (answer.raw.version, answer.headers["Connection"]) == (10, "close")
