"""Python imports this at its start, if this directory is in PYTHONPATH: a module's waits are shorter, or other limits.

SET=relay.listening.outbox_relay.SWEEP_INTERVAL=0.5,... while the project's directory is in PYTHONPATH, too.
"""

import importlib
import os

for _one in os.environ["SET"].split(","):
    _name, _, _value = _one.partition("=")
    _module, _, _constant = _name.rpartition(".")
    assert hasattr(importlib.import_module(_module), _constant), _name
    setattr(importlib.import_module(_module), _constant, float(_value))
