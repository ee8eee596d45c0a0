"""Odd mappings: each mistake is an error at the start, a finding of `check`, or a refused row; never a traceback."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from relay import targets
from relay.delivery import Delivery, Verdict
from relay.errors import ConfigError
from relay.findings import Level
from tests import odd_mappings
from tests.links import Link, findings
from tests.odoo_rows import credentials

FILES = 120


def settings(odoo: Odoo, file: Path) -> dict[str, str]:
    common = {"RABBITMQ_URL": "amqp://nobody@localhost/", "QUEUE": "odoo", "TARGET": "odoo-load", "ODOO_LINK_WAIT": "0"}
    return {**common, "ODOO_MAPPING": str(file), **credentials(odoo)}


def test_the_good_one_is_good(odoo: Odoo, tmp_path: Path) -> None:
    if odoo.real:
        pytest.skip("fills it with nonsense")
    file = tmp_path / "mapping.toml"
    file.write_text(odd_mappings.to_toml(odd_mappings.GOOD))
    made = targets.make(targets.load(None, settings(odoo, file)))
    bad = [one for one in findings(made) if one.level is Level.FAILED]
    (said,) = [f"{one.name}: {one.detail}" for one in bad]
    assert said == "public.t -> res.partner: name (de_DE): has one text for all languages"


@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
def test_one_mistake_in_each_place_is_no_more_than_refused(odoo: Odoo, tmp_path: Path) -> None:
    each = odd_mappings.each()
    try_all(odoo, tmp_path, each[int(odoo.like == "19") :: 2])


@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
def test_nor_are_several(odoo: Odoo, tmp_path: Path) -> None:
    chance = random.Random(odoo.version)
    try_all(odoo, tmp_path, [odd_mappings.odd(chance) for _ in range(FILES)])


def try_all(odoo: Odoo, directory: Path, texts: Sequence[str]) -> None:
    """Load mappings, check those that can be, and deliver odd rows by them."""
    if odoo.real:
        pytest.skip("fills it with nonsense")
    chance, loaded, verdicts = random.Random(odoo.version), 0, set()
    file = directory / "mapping.toml"
    for text in texts:
        file.write_text(text)
        try:
            made = targets.make(targets.load(None, settings(odoo, file)))
        except ConfigError as error:
            for what, remedy in error.problems:
                assert what.startswith(str(file)), text
                assert remedy, text
            continue
        loaded += 1
        assert all(one.remedy for one in findings(made) if not one.ok), text
        with contextlib.closing(Link(made)) as link:
            for _ in range(3):
                events = odd_mappings.events(chance, chance.randint(1, 4))
                for outcome in link.deliver([Delivery(event, 1) for event in events]):
                    verdicts.add(outcome.verdict)
                    assert outcome.verdict is Verdict.DONE or outcome.reason.isprintable(), text
                    assert outcome.verdict is not Verdict.MESSAGE or outcome.reason, text
    assert loaded > len(texts) / 10
    assert {Verdict.DONE, Verdict.MESSAGE} <= verdicts
