#!/usr/bin/python3 -I
"""Run a script of /usr/lib/relay with the settings of /etc/relay: relay-listen [NAME] ..., relay-receiver NAME ...

The package installs this as /usr/bin/relay-listen and /usr/bin/relay-receiver. `relay-receiver odoo parked` is
`receiver.py --env-file /etc/relay/odoo.env parked`; without a name relay-listen takes listen.env.
"""

import importlib
import os
import pwd
import sys
from pathlib import Path

LIBRARY = "/usr/lib/relay"
SETTINGS = Path("/etc/relay")
USER = "relay"
SCRIPTS = {"relay-listen": "listen", "relay-receiver": "receiver"}
PLACES = {"relay-listen": "relay-listen [NAME]", "relay-receiver": "relay-receiver NAME"}  # in --help
WHOLE = ("-h", "--help", "--version", "--env-file")  # what needs no name


def arguments(program: str, given: list[str], settings: Path) -> list[str]:
    """The script's command line.

    Args:
        program: relay-listen or relay-receiver.
        given: what was typed behind it.
        settings: the directory of the NAME.env.

    Raises:
        SystemExit: there is no such name; with the names that there are.
    """
    if given and _is_there(settings / f"{given[0]}.env"):
        name, *rest = given
    elif any(word.split("=")[0] in WHOLE for word in given):
        return given
    elif program == "relay-listen":
        name, rest = "listen", given
    else:
        raise SystemExit(f"{program}: name the settings: {program} NAME ...; {_names(settings)}")
    return ["--env-file", str(settings / f"{name}.env"), *rest]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _names(settings: Path) -> str:
    if not os.access(settings, os.R_OK | os.X_OK):
        return f"{settings} is for root and group {USER}: try sudo"
    found = sorted(path.stem for path in settings.glob("*.env") if path.stem != "listen")
    return f"in {settings} there are: {', '.join(found)}" if found else f"there is no {settings}/NAME.env yet"


def become(user: str) -> None:
    """Root's commands run as the daemon does: a LOG_FILE that they make is the daemon's, and they may do no more."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        os.environ["HOME"] = entry.pw_dir  # libpq looks there


def main() -> int:
    """Return the script's exit status."""
    program, given = Path(sys.argv[0]).name, sys.argv[1:]
    words = arguments(program, given, SETTINGS)
    become(USER)
    sys.argv = [PLACES[program] if words == given else program, *words]
    sys.path.insert(0, LIBRARY)
    script, cli = importlib.import_module(SCRIPTS[program]), importlib.import_module("relay.cli")
    return int(cli.run(script.main))


if __name__ == "__main__":
    sys.exit(main())
