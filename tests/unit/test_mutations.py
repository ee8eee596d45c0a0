"""The table of mutations fits the code: each can be applied, and its tests are some that `make test` runs."""

from __future__ import annotations

import pytest

from dev.mutate import ROOT, Mutation, table
from tests.unit.test_promises import promises, runs

MUTATIONS = table()


def test_each_has_a_name_of_its_own() -> None:
    assert len({one.name for one in MUTATIONS}) == len(MUTATIONS) > 150


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_it_can_be_applied(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text()
    broken = mutation.apply(text)  # ValueError: the code has changed, and so must the table
    assert broken != text
    if mutation.file.endswith(".py"):
        compile(broken, mutation.file, "exec")
    for one in mutation.tests:
        path, _, test = one.partition("::")
        assert "test" in runs(path).get(test, ()), f"make test does not run {one}"
    assert mutation.promise in promises()
