"""The fixture that tests of a receiver's parts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.vhost import Vhost
from tests.parts import Parts
from tests.wired import wired


@pytest.fixture
def parts(vhost: Vhost) -> Iterator[Parts]:
    with wired(vhost) as made:
        yield Parts(vhost, made)
