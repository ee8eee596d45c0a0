"""Python imports this at its start, if this directory is in PYTHONPATH: constants of the product, as the test has them.

SHORTENED="relay.receiving.receiver.LOOK_SECONDS=0.2 ..."; the product's root must be in PYTHONPATH as well.
"""

import importlib
import os

for _one in os.environ["SHORTENED"].split():
    _name, _, _value = _one.partition("=")
    _module, _, _constant = _name.rpartition(".")
    _found = importlib.import_module(_module)
    setattr(_found, _constant, type(getattr(_found, _constant))(_value))
