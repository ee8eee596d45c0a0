"""Python imports this at its start, if this directory is in PYTHONPATH: SIGUSR1 holds up the main thread alone."""

import signal
import time

SECONDS = 1.5

signal.signal(signal.SIGUSR1, lambda _number, _frame: time.sleep(SECONDS))
