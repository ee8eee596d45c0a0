"""What both daemons show to Prometheus is as its own tool wants it; docs/alerts.yml and docs/monitoring.md name it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dev import promtool
from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import ServerError, free_port, wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.receiving import settings
from tests.status import get

Make = Callable[..., Script]
RULES = ROOT / "docs" / "alerts.yml"
# Each alert: series that must raise it, as promtool writes them, and those that must not.
LISTENER = 'relay_build_info{source="erp", exchange="relay", version="1", instance="a", job="relay"}'
RECEIVER = 'relay_build_info{queue="odoo", target="http", version="1", instance="a", job="relay"}'
LABELS = '{instance="a", job="relay"}'
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "RelayDown": ({f"up{LABELS}": "0x60"}, {f"up{LABELS}": "1x60"}),
    "RelayNoListener": (
        {LISTENER: "1x60", f"relay_active{LABELS}": "0x60"},
        {LISTENER: "1x60", f"relay_active{LABELS}": "0x60", LISTENER.replace('"a"', '"b"'): "1x60",
         'relay_active{instance="b", job="relay"}': "1x60"},
    ),
    "RelayOutboxOld": (
        {f"relay_outbox_oldest_age_seconds{LABELS}": "0+60x60", f"relay_active{LABELS}": "1x60"},
        {f"relay_outbox_oldest_age_seconds{LABELS}": "250x60", f"relay_active{LABELS}": "1x60"},
    ),
    "RelayOutboxLong": (
        {f"relay_outbox_events{LABELS}": "200000x60"}, {f"relay_outbox_events{LABELS}": "300000-1000x60"}
    ),
    "RelayBrokerAlarm": ({f"relay_broker_alarm{LABELS}": "1x60"}, {f"relay_broker_alarm{LABELS}": "0x60"}),
    "RelayEventRefusedByBroker": (
        {f"relay_outbox_refused_events{LABELS}": "1x60"}, {f"relay_outbox_refused_events{LABELS}": "0x60"}
    ),
    "RelayTableHeld": ({f"relay_held_tables{LABELS}": "1x60"}, {f"relay_held_tables{LABELS}": "0x60"}),
    "RelayCaptureIncomplete": (
        {f"relay_incomplete_tables{LABELS}": "1x60"}, {f"relay_incomplete_tables{LABELS}": "0x60"}
    ),
    "RelayCommitToQueueSlow": (
        {'relay_commit_to_queue_seconds_bucket{le="60", instance="a", job="relay"}': "0x60",
         'relay_commit_to_queue_seconds_bucket{le="300", instance="a", job="relay"}': "0+10x60",
         'relay_commit_to_queue_seconds_bucket{le="+Inf", instance="a", job="relay"}': "0+10x60"},
        {'relay_commit_to_queue_seconds_bucket{le="0.01", instance="a", job="relay"}': "0+10x60",
         'relay_commit_to_queue_seconds_bucket{le="+Inf", instance="a", job="relay"}': "0+10x60"},
    ),
    "RelayNoReceiver": (
        {RECEIVER: "1x60", f"relay_active{LABELS}": "0x60"}, {RECEIVER: "1x60", f"relay_active{LABELS}": "1x60"}
    ),
    "RelayEndpointDown": ({f"relay_breaker_open{LABELS}": "1x60"}, {f"relay_breaker_open{LABELS}": "0x60"}),
    "RelayEventParked": ({f"relay_refused_keys{LABELS}": "1x60"}, {f"relay_refused_keys{LABELS}": "0x60"}),
    "RelayDeliveryOld": (
        {f"relay_oldest_held_age_seconds{LABELS}": "900x60", f"relay_breaker_open{LABELS}": "0x60"},
        {f"relay_oldest_held_age_seconds{LABELS}": "900x60", f"relay_breaker_open{LABELS}": "1x60"},
    ),
    "RelayFailuresMany": (
        {f"relay_failures_total{LABELS}": "0+20x60", f"relay_deliveries_total{LABELS}": "0+10x60",
         f"relay_breaker_open{LABELS}": "0x60"},
        {f"relay_failures_total{LABELS}": "0+5x60", f"relay_deliveries_total{LABELS}": "0+10x60",
         f"relay_breaker_open{LABELS}": "0x60"},
    ),
    "RelayCommitToSuccessSlow": (
        {'relay_commit_to_success_seconds_bucket{le="300", instance="a", job="relay"}': "0x60",
         'relay_commit_to_success_seconds_bucket{le="1800", instance="a", job="relay"}': "0+10x60",
         'relay_commit_to_success_seconds_bucket{le="+Inf", instance="a", job="relay"}': "0+10x60"},
        {'relay_commit_to_success_seconds_bucket{le="1", instance="a", job="relay"}': "0+10x60",
         'relay_commit_to_success_seconds_bucket{le="+Inf", instance="a", job="relay"}': "0+10x60"},
    ),
}  # fmt: skip
AT = 40  # minutes: when it is looked which alerts fire


@pytest.fixture(scope="module")
def tool() -> Path:
    try:
        return promtool.find()
    except ServerError as error:
        pytest.skip(f"promtool can't be had: {error}")


def checked(tool: Path, *arguments: str, given: str = "") -> str:
    done = subprocess.run([tool, *arguments], input=given, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", RULES.read_text())


def exported(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_what_is_shown_is_as_prometheus_wants_it_and_as_it_is_documented(
    script: Make, database: Database, vhost: Vhost, endpoint: Endpoint, tool: Path
) -> None:
    ports = free_port(), free_port()
    listening = Listening(script, database, vhost, STATUS_ADDR=f"127.0.0.1:{ports[0]}")
    receiver = script("receiver.py", settings(vhost, endpoint, STATUS_ADDR=f"127.0.0.1:{ports[1]}"))
    receiver.start()
    receiver.wait_for_log("consuming")
    listening.table()
    listening.start()
    listening.execute("insert into t values (1)")
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event")
    listening.script.wait_for_log("status is shown")
    receiver.wait_for_log("status is shown")
    found = [get(port, "/metrics")[1] for port in ports]
    for text in found:
        checked(tool, "check", "metrics", given=text)
    names = exported(found[0]) | exported(found[1])
    used = set(
        re.findall(
            r"\brelay_[a-z_]+",
            "\n".join(re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n +(?:for|labels):", RULES.read_text())),
        )
    )
    assert len(used) > 10
    assert used <= names, "an alert on what nobody shows never fires"
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in names}
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"^\| `(relay_\w+)`", page, re.MULTILINE)) == families
    assert {f"`{name}`" for name in alerts()} <= set(re.findall(r"`Relay\w+`", page))


def test_the_rules_are_such_as_prometheus_takes(tool: Path) -> None:
    assert f"{len(alerts())} rules found" in checked(tool, "check", "rules", str(RULES))


@pytest.mark.parametrize("name", alerts())
def test_each_alert_fires_when_it_should_and_not_otherwise(name: str, tool: Path, tmp_path: Path) -> None:
    text = f"rule_files: [{RULES}]\nevaluation_interval: 1m\ntests:\n"
    for fires, series in zip((True, False), CASES[name], strict=True):
        rows = "\n".join(f"      - {{series: '{one}', values: '{values}'}}" for one, values in series.items())
        text += (
            f"  - interval: 1m\n    input_series:\n{rows}\n    promql_expr_test:\n"
            f'      - expr: count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)\n'
            f"        eval_time: {AT}m\n        exp_samples: [{{labels: '{{}}', value: {int(fires)}}}]\n"
        )
    cases = tmp_path / "cases.yml"
    cases.write_text(text)
    checked(tool, "test", "rules", str(cases))
