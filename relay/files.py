"""Files that the settings name: read here, so that one place says what is wrong with a path."""

import stat
from pathlib import Path

from relay.errors import RelayError, one_line

WANTED = "name a file that this user may read"


class Unreadable(RelayError):
    """A file can't be read; the text says why, behind its name."""


def content(path: Path) -> bytes:
    """Raises Unreadable."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise Unreadable("is a pipe")  # nobody may ever write into it
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


def read_by_others(path: Path) -> bool:
    """May every user of this host read it? Whether they may enter its directory is not looked at."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except (OSError, ValueError):
        return False
