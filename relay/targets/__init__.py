"""Where events go to. Each target is a module of its own; they know `relay.delivery`, and never each other."""

from relay.config import Receive
from relay.delivery import Target
from relay.targets.http import HttpTarget


def make(config: Receive) -> Target:
    """The target that TARGET names."""
    return HttpTarget(config)
