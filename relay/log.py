"""Log lines for people with `tail` and `grep`: time, level, a sentence of stable wording, then `key=value` fields.

No payload and no secret is ever passed to these functions. `printable` is where whatever is shown to a person loses
its power over the terminal: the log and all commands go through it.
"""

import functools
import io
import json
import logging
import logging.handlers
import os
import sys
import time
from pathlib import Path

from relay.errors import ConfigError, one_line

VALUE_MAX = 1000  # characters of one value: a key or an id of somebody else's may have any length
LEVELS = ("debug", "info", "warning", "error")


def printable(text: str) -> str:
    """Make one line of it: control characters, line breaks, bidirectional controls and the like as in JSON.

    An id, a key, a topic, a reason or a server's words may hold anything: as they are, they would forge whole lines.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _value(value: object) -> str:
    """One field's value on one line: quoted (JSON, so control characters are escaped) when a bare word won't do."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    text = str(value)
    text = text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}..."
    if text and text.isprintable() and not any(c in text for c in ' "='):
        return text
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else json.dumps(text)


class Log:
    """A logger whose methods take a sentence and fields: `log.info("connected to RabbitMQ", host="mq1")`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def _write(self, level: int, sentence: str, fields: dict[str, object]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        words = [sentence, *(f"{key}={_value(value)}" for key, value in fields.items() if value is not None)]
        self._logger.log(level, "%s", " ".join(words))

    def debug(self, sentence: str, **fields: object) -> None:
        """For following single steps; off by default."""
        self._write(logging.DEBUG, sentence, fields)

    def info(self, sentence: str, **fields: object) -> None:
        """A change of state that is in order."""
        self._write(logging.INFO, sentence, fields)

    def warning(self, sentence: str, **fields: object) -> None:
        """Something waits, and will mend itself."""
        self._write(logging.WARNING, sentence, fields)

    def error(self, sentence: str, **fields: object) -> None:
        """A person must act."""
        self._write(logging.ERROR, sentence, fields)


class _Format(logging.Formatter):
    def __init__(self) -> None:
        # The journal stamps each line itself.
        stamp = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s.%(msecs)03dZ "
        super().__init__(stamp + "%(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        """All lines pass here, those of libraries as well."""
        return printable(super().formatMessage(record))


class _LogFile(logging.handlers.WatchedFileHandler):
    """Opened again when it was moved away; never to be read by every user of the host."""

    def _open(self) -> io.TextIOWrapper:
        opener = functools.partial(os.open, mode=0o640)
        return open(self.baseFilename, "a", encoding="utf-8", opener=opener)

    def emit(self, record: logging.LogRecord) -> None:
        """A directory that has gone, or may not be written any more, must not end the daemon."""
        try:
            super().emit(record)
        except OSError as error:
            sys.stderr.write(f"LOG_FILE={self.baseFilename}: {one_line(error)}\n{self.format(record)}\n")


def setup(level: str = "info", file: str = "") -> None:
    """Send the program's log to standard error, or to `file` (which logrotate may move away: it is opened again).

    Args:
        level: one of `LEVELS`.
        file: path; empty means standard error.

    Raises:
        ConfigError: the file can't be opened.
    """
    handler: logging.Handler
    if file:
        try:
            handler = _LogFile(Path(file))
        except OSError as error:
            problem = f"LOG_FILE={file} can't be written: {one_line(error)}"
            raise ConfigError((problem, "name a file in a directory where this user may write")) from None
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # pika reports every lost connection at ERROR with a traceback, pieces of ours with none: we say it ourselves, once.
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
