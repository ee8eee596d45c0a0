"""Log lines for people with `tail` and `grep`: time, level, a sentence of stable wording, then `key=value` fields.

LOG_FORMAT=json writes the same as one JSON object a line: time, level, part, message, and the fields by their names.
No payload and no secret is ever passed to these functions. `printable` is where whatever is shown to a person loses
its power over the terminal: the log and all commands go through it.
"""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from relay.errors import ConfigError, one_line

VALUE_MAX = 1000  # characters of one value: a key or an id of somebody else's may have any length
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # syslog's, as sd-daemon(3) takes them


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

    @property
    def debugs(self) -> bool:
        """Are lines of level debug written? For what would cost something to say."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def _write(self, level: int, sentence: str, fields: dict[str, object]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        given = {key: value for key, value in fields.items() if value is not None}
        words = [sentence, *(f"{key}={_value(value)}" for key, value in given.items())]
        self._logger.log(level, "%s", " ".join(words), extra={"sentence": sentence, "fields": given})

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


class _Text(logging.Formatter):
    """Args:
    stamped: with the time; the journal stamps each line itself.
    journal: with a priority that journalctl knows (sd-daemon(3)).
    """

    def __init__(self, *, stamped: bool, journal: bool) -> None:
        stamp = "%(asctime)s.%(msecs)03dZ " if stamped else ""
        super().__init__(stamp + "%(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """See Formatter. What a library adds, a traceback, stays on the lines that it has."""
        text = super().format(record)
        priority = f"<{_PRIORITIES.get(record.levelname, 6)}>" if self._journal else ""
        return "\n".join(priority + line for line in text.split("\n")) if priority else text

    def formatMessage(self, record: logging.LogRecord) -> str:
        """All lines pass here, those of libraries as well."""
        return printable(super().formatMessage(record))


class _Json(logging.Formatter):
    """One object a line. A field that is called like one of ours gets a `_` behind its name."""

    def format(self, record: logging.LogRecord) -> str:
        """See Formatter."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "part": record.name,
            "message": getattr(record, "sentence", None) or record.getMessage(),
        }
        for name, value in getattr(record, "fields", {}).items():
            found[f"{name}_" if name in found else name] = _json_value(value)
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found)  # in ASCII, so that no character has power over a terminal


def _json_value(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}..."


class _Output(logging.Handler):
    """Lines to a file descriptor. A full disk, a directory that has gone or a closed pipe must not end the daemon, and
    is told once: when it begins, on standard error, and when it is over, with how many lines are missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._missing = 0
        self._torn = False  # the last line could be written in part only

    def emit(self, record: logging.LogRecord) -> None:
        """See Handler."""
        line = self.format(record)
        try:
            if self._missing:
                self._write(self._format_own(f"log written again, lines missing here: {self._missing}"))
                self._missing = 0
            self._write(line)
        except (OSError, ValueError) as error:
            self._lost(line, error)

    def _format_own(self, detail: str) -> str:
        return self.format(logging.LogRecord("log", logging.WARNING, "", 0, detail, (), None))

    def _lost(self, _line: str, _error: Exception) -> None:
        self._missing += 1

    def _fd(self) -> int:
        raise NotImplementedError

    def _write(self, line: str) -> None:
        data = ("\n" if self._torn else "").encode() + line.encode(errors="backslashreplace") + b"\n"
        fd, sent = self._fd(), 0
        try:
            while sent < len(data):
                sent += os.write(fd, data[sent:])
        finally:
            self._torn = 0 < sent < len(data) or (self._torn and not sent)


class _StandardError(_Output):
    def _fd(self) -> int:
        return sys.stderr.fileno()


class _LogFile(_Output):
    """Never to be read by every user of the host. It may be moved away (logrotate), deleted or truncated at any time:
    each line goes to the end of the file that has the name now. What can't be written there goes to standard error.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        self._opened: int | None = None
        self._identity: tuple[int, int] | None = None
        self._fd()

    def reopen(self) -> None:
        """The next line opens it anew. From any thread."""
        self._identity = None

    def _fd(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            now = self._path.stat()
            if self._opened is not None and (now.st_dev, now.st_ino) == self._identity:
                return self._opened
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None
        # A pipe of somebody's in its place, that nobody reads, would have us wait for ever.
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        self._opened = os.open(self._path, how, 0o640)
        found = os.fstat(self._opened)
        self._identity = found.st_dev, found.st_ino
        return self._opened

    def _lost(self, line: str, error: Exception) -> None:
        if not self._missing:
            complain(f"LOG_FILE={self._path}: {one_line(error)}; until it can be written, lines come here")
        super()._lost(line, error)
        complain(line)


def complain(line: str) -> None:
    """One line for a person, on standard error, whatever is in it; nothing if that is closed or full."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()


def _is_journal() -> bool:
    """Does standard error go to the journal? (systemd.exec(5): the variable outlives a redirection)."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def setup(level: str = "info", file: str = "", style: str = "text") -> None:
    """Send the program's log to standard error, or to `file`.

    Args:
        level: one of `LEVELS`.
        file: path; empty means standard error.
        style: one of `FORMATS`.

    Raises:
        ConfigError: the file can't be opened.
    """
    handler: _Output
    if file:
        try:
            handler = _LogFile(file)
        except OSError as error:
            problem = f"LOG_FILE={file} can't be written: {one_line(error)}"
            raise ConfigError((problem, "name a file in a directory where this user may write")) from None
    else:
        handler = _StandardError()
    journal = not file and _is_journal()
    handler.setFormatter(_Json() if style == "json" else _Text(stamped=not journal, journal=journal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # pika reports every lost connection at ERROR with a traceback, pieces of ours with none: we say it ourselves, once.
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)


def reopen() -> None:
    """Open LOG_FILE anew, as logrotate's `postrotate` wants it with SIGHUP."""
    for handler in logging.root.handlers:
        if isinstance(handler, _LogFile):
            handler.reopen()


def to_file(part: str, lines: Iterable[str]) -> None:
    """What ends the program is told on standard error; LOG_FILE, if the log goes there, gets it as well."""
    if any(isinstance(handler, _LogFile) for handler in logging.root.handlers):
        for line in lines:
            logging.getLogger(part).error("%s", line)
