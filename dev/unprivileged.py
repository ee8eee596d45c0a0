"""PostgreSQL refuses to run as root. When we are root, its programs run under another identity.

A user namespace is tried first: inside it our uid has another number, so files stay ours and nothing needs to be
readable by anyone else (a clone may live under a 0700 directory). Containers often forbid it; then `nobody` is used.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from dev.process import ServerError

USER = "nobody"


@functools.cache
def _namespace() -> list[str]:
    """The command prefix of a user namespace that works here, or nothing. The uid must have an account: initdb asks."""
    account = pwd.getpwnam(USER)
    prefix = ["unshare", "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}"]
    if shutil.which("unshare") is None:
        return []
    works = subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    return prefix if works else []


def prefix(directory: Path, program: Path) -> list[str]:
    """What to put before a command that may not run as root; `directory` is handed over where needed."""
    if os.geteuid() != 0:
        return []
    return _namespace() or _other_user(directory, program)


def hand_over(path: Path) -> None:
    """Make a file or directory of ours usable by the identity that `prefix` selects."""
    if os.geteuid() == 0 and not _namespace():
        account = pwd.getpwnam(USER)
        os.chown(path, account.pw_uid, account.pw_gid)


def _other_user(directory: Path, program: Path) -> list[str]:
    account = pwd.getpwnam(USER)
    prefix = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if shutil.which("setpriv") is None:
        raise ServerError("PostgreSQL cannot run as root: install util-linux (setpriv, unshare) or use another user")
    hand_over(directory)
    for test, path in (("-w", directory), ("-x", program)):
        if subprocess.run([*prefix, "test", test, str(path)], check=False).returncode != 0:
            raise ServerError(
                f"PostgreSQL cannot run as root, user namespaces are not allowed here, and user {USER} cannot reach\n"
                f"{path}. Use an ordinary user, or move the clone to a directory that every user may enter, e.g.\n"
                f"    mv {Path.cwd()} /opt/ && chmod a+rx /opt/{Path.cwd().name}"
            )
    return prefix
