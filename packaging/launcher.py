#!/usr/bin/python3 -I
"""Run a script of /usr/lib/relay with the settings of /etc/relay: relay-listen [NAME] ..., relay-receiver NAME ...

The package installs this as /usr/bin/relay-listen and /usr/bin/relay-receiver. `relay-receiver odoo parked` is
`receiver.py --env-file /etc/relay/odoo.env parked`, or that consumer where [odoo] stands in /etc/relay/consumers.toml;
without a name relay-listen takes listen.env.
"""

import importlib
import os
import pwd
import signal
import sys
import tomllib
from pathlib import Path

LIBRARY = "/usr/lib/relay"
SETTINGS = Path("/etc/relay")
USER = "relay"
SCRIPTS = {"relay-listen": "listen", "relay-receiver": "receiver"}
PLACES = {"relay-listen": "relay-listen [NAME]", "relay-receiver": "relay-receiver NAME"}  # in --help
WHOLE = ("-h", "--help", "--version", "--env-file", "--consumer", "--consumers")  # what needs no name
CONSUMERS = "consumers.toml"  # many receivers in one file


def arguments(program: str, given: list[str], settings: Path) -> list[str]:
    """The script's command line.

    Args:
        program: relay-listen or relay-receiver.
        given: what was typed behind it.
        settings: the directory of the NAME.env.

    Raises:
        SystemExit: there is no such name; with the names that there are.
    """
    consumers = settings / CONSUMERS
    if program == "relay-receiver" and given and not _is_there(settings / f"{given[0]}.env"):
        if given[0] in _sections(consumers):
            return ["--consumers", str(consumers), "--consumer", *given]
        if given[0] in ("check", "status") and "--all" in given:
            return ["--consumers", str(consumers), *given]
    if given and _is_there(settings / f"{given[0]}.env"):
        name, *rest = given
    elif any(word.split("=")[0] in WHOLE for word in given):
        return given
    elif program == "relay-listen":
        name, rest = "listen", given
    else:
        raise SystemExit(f"{program}: name the settings: {program} NAME ...; {_names(settings)}")
    return ["--env-file", str(settings / f"{name}.env"), *rest]


def _sections(path: Path) -> list[str]:
    """The names in it; what is wrong with it, the script tells."""
    try:
        return list(tomllib.loads(path.read_text())) if _is_there(path) else []
    except (OSError, ValueError):
        return []


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _names(settings: Path) -> str:
    if not os.access(settings, os.R_OK | os.X_OK):
        return f"{settings} is for root and group {USER}: try sudo"
    files = {path.stem for path in settings.glob("*.env")} - {"listen", "config"}
    found = sorted(files | set(_sections(settings / CONSUMERS)))
    return f"in {settings} there are: {', '.join(found)}" if found else f"there is no {settings}/NAME.env yet"


def become(user: str) -> None:
    """Root's commands run as the daemon does: a LOG_FILE that they make is the daemon's, and they may do no more."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        os.environ["HOME"] = entry.pw_dir  # libpq looks there


def main() -> None:
    """End with the script's exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, without a traceback, until cli.run does
    program, given = Path(sys.argv[0]).name, sys.argv[1:]
    words = arguments(program, given, SETTINGS)
    become(USER)
    sys.argv = [PLACES[program] if words == given else program, *words]
    sys.path.insert(0, LIBRARY)
    script, cli = importlib.import_module(SCRIPTS[program]), importlib.import_module("relay.cli")
    cli.leave(cli.run(script.main))


if __name__ == "__main__":
    main()
