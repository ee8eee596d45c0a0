"""How the tests look for secrets in what is shown: each kind of them would be found."""

from __future__ import annotations

import pytest

from tests.shown import SETTINGS, leaked, secrets


@pytest.mark.parametrize(
    "settings",
    [
        {"RABBITMQ_URL": "amqp://u:s3cret-s3cret@mq:5672/%2F"},
        {"DATABASE_URL": "postgresql://u:s3cret%2Ds3cret@db/erp"},
        {"DATABASE_URL": "host=db password=s3cret-s3cret dbname=erp"},
        {"HTTP_HEADERS": '\'{"X-Api-Key": "s3cret-s3cret", "X-Title": "{table}"}\''},
        {"ODOO_WEBHOOK": "https://odoo/web/hook/s3cret-s3cret"},
        {"HTTP_TOKEN": "s3cret-s3cret"},
        {"CONTROL_SECRET": "'s3cret-s3cret'"},
    ],
)
def test_a_secret_of_each_kind_would_be_found(settings: dict[str, str]) -> None:
    said = "refused: s3cret-s3cret -> correct it"
    assert leaked(secrets(settings), [f"starting\n{said}\n"]) == [said]
    assert leaked(secrets(settings), ["amqp://u@mq:5672/%2F https://odoo X-Title db erp"]) == []


def test_the_names_of_all_secrets_are_known() -> None:
    assert {"RABBITMQ_URL", "DATABASE_URL", "STATUS_TOKEN", "SIGN_EVENTS", "HTTP_PASSWORD", "ODOO_API_KEY"} <= SETTINGS
