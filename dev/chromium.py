"""Debian's chromium without a window, for tests of the page; fetched into the cache, as RabbitMQ is (dev/debian.py)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dev import debian

PACKAGE = "chromium-headless-shell"
_PROGRAM = "usr/lib/chromium/chromium-headless-shell"
_INSTALLED = (Path("/") / _PROGRAM, Path("/usr/lib/chromium/chromium"))
_FONTS = """\
<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>{root}/usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{root}/fonts</cachedir>
<alias binding="same"><family>ui-monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
<alias binding="same"><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
<match target="pattern"><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>
</fontconfig>
"""


@dataclass(frozen=True)
class Release:
    """A browser and what it needs in its environment."""

    program: Path
    environment: Mapping[str, str]


def find(cache: Path = debian.CACHE) -> Release:
    """The system's chromium if it is installed, else a fetched one, for which the cache keeps 400 MB.

    Raises:
        ServerError: it can't be fetched.
    """
    for program in _INSTALLED:
        if program.exists():
            return Release(program, {})
    home = cache / "chromium-system"
    cache.mkdir(parents=True, exist_ok=True)
    if not home.exists():  # what is there waits for no fetch of something else
        with debian.locked(cache / "lock"), tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
            if not home.exists():
                root = debian.unpack_all(Path(work), PACKAGE, "fonts-dejavu-core")
                shutil.rmtree(root / "usr/share/doc", ignore_errors=True)
                (root / "fonts.conf").write_text(_FONTS.format(root=home))
                root.rename(home)
    libraries = [*home.glob("usr/lib/*-linux-gnu"), *home.glob("lib/*-linux-gnu")]
    libraries += [path for top in libraries for path in top.glob("pulseaudio")]
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "FONTCONFIG_FILE": str(home / "fonts.conf")}
    return Release(home / _PROGRAM, environment)
