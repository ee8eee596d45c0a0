"""Where events go to. Each target is a module of its own; they know `relay.delivery`, and never each other."""

from collections.abc import Callable

from relay.config import Receive
from relay.delivery import Target
from relay.targets.client import tls
from relay.targets.http import HttpTarget
from relay.targets.odoo.call import OdooCallTarget
from relay.targets.odoo.load import OdooLoadTarget
from relay.targets.odoo.webhook import OdooWebhookTarget

_TARGETS: dict[str, Callable[[Receive], Target]] = {
    "http": HttpTarget,
    "odoo-load": OdooLoadTarget,
    "odoo-call": OdooCallTarget,
    "odoo-webhook": OdooWebhookTarget,
}


def make(config: Receive) -> Target:
    """The target that TARGET names. Raises ConfigError: it needs a file, and that is wrong."""
    tls(config)  # here, not in a thread's first request: a file that can't be used is a mistake in the settings
    return _TARGETS[config.target](config)
