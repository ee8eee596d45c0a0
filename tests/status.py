"""What tests of STATUS_ADDR share."""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests import shown


def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    """Status and text of an answer; kept, for whoever looks whether a secret is in it."""
    status, text = _get(port, path, token)
    shown.TEXTS.append(text)
    return status, text


def _get(port: int, path: str, token: str) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def numbers(port: int) -> dict[str, float]:
    """The metrics by name."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {sample.name: sample.value for family in families for sample in family.samples}


def by_labels(port: int, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric, by the values of their labels."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    samples = [sample for family in families for sample in family.samples]
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}
