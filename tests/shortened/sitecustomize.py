"""Python imports this at its start, if this directory is in PYTHONPATH: constants of the product, as the test has them.

SHORTENED="relay.receiving.upkeep.LOOK_SECONDS=0.2 ..."; the product's root must be in PYTHONPATH as well.
"""

import importlib
import os
import sys

for _one in os.environ["SHORTENED"].split():
    _name, _, _value = _one.partition("=")
    _module, _, _constant = _name.rpartition(".")
    _was = getattr(importlib.import_module(_module), _constant)
    # Out of dev/forkserver.py others have imported it already.
    for _other in [one for name, one in sys.modules.items() if name.startswith("relay.")]:
        if getattr(_other, _constant, None) is _was:
            setattr(_other, _constant, type(_was)(_value))
