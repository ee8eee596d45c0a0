"""Files that the settings name: read here, so that one place says what is wrong with a path."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from relay.errors import RelayError, one_line

WANTED = "name a file that this user may read"


class Unreadable(RelayError):
    """A file can't be read; the text says why, behind its name."""


def content(path: Path) -> bytes:
    """Raises Unreadable."""
    try:
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode):
            raise Unreadable("is a pipe")  # nobody may ever write into it
        if stat.S_ISCHR(found.st_mode) and found.st_rdev != Path(os.devnull).stat().st_rdev:
            raise Unreadable("is a device")  # that may have no end
        return path.read_bytes()
    except FileNotFoundError:
        raise Unreadable("does not exist") from None
    except OSError as error:
        raise Unreadable(f"can't be read: {one_line(error)}") from None
    except ValueError:
        raise Unreadable("can't be a file: a zero byte is in its name") from None


def text(path: Path) -> str:
    """A text, without the byte order mark that an editor may have put before it. Raises Unreadable."""
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"can't be read: {one_line(error)}") from None


class Secret:
    """A secret; if a file holds it, as it is there now: whoever renews it need not start anything again.

    Args:
        text: as read at the start.
        path: where from; None = no file.
        parse: raises ValueError where a new text is none. Then, and while the file can't be read, the last one holds.
    """

    def __init__(self, text: str, path: Path | None, parse: Callable[[str], str]) -> None:
        self._text = text
        self._path = path
        self._parse = parse
        self._mark: tuple[int, int, int] | None = None

    @property
    def renewed(self) -> bool:
        """May it change?"""
        return self._path is not None

    def now(self) -> str:
        """The secret. Looks at the file each time: a microsecond."""
        if self._path is None:
            return self._text
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if mark != self._mark:
                self._text = self._parse(text(self._path).rstrip("\r\n")) or self._text
                self._mark = mark
        except (OSError, ValueError, Unreadable):
            pass
        return self._text


def read_by_others(path: Path) -> bool:
    """May every user of this host read it? Whether they may enter its directory is not looked at."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except (OSError, ValueError):
        return False
