"""Python imports this at its start, if this directory is in PYTHONPATH: no name server answers for *.mute.example."""

import socket
import sys
import time
from typing import Any

_getaddrinfo = socket.getaddrinfo


def _silent(host: Any, *arguments: Any, **more: Any) -> Any:
    if str(host).endswith(".mute.example") and not more.get("flags", 0) & socket.AI_NUMERICHOST:
        sys.stderr.write(f"asked for {host}\n")
        time.sleep(600)
    return _getaddrinfo(host, *arguments, **more)


socket.getaddrinfo = _silent
