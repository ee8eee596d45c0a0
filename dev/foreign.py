"""Packages of another Debian suite than the system's: where they come from, and how their programs run here.

Programs of a newer suite want a newer libc than the system's, and a process cannot mix the two. So each program gets
the suite's own loader and library path written into it (patchelf); what it starts by itself, a shell say, stays the
system's.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dev.process import ServerError

NEEDED = ("erlang", "lib", "rabbitmq-server")  # packages whose files are wanted; the rest of the closure is not
_SOURCES = Path("/etc/apt")
_ELF = b"\x7fELF"


def sources(work: Path, suite: str) -> dict[str, str]:
    """apt settings for a suite, taken from where the system's own main packages come from."""
    uri, keyring = _origin()
    signed = f"[signed-by={keyring}] " if keyring else ""
    (work / "sources.list").write_text(f"deb {signed}{uri} {suite} main\n")
    return {"Dir::Etc::SourceList": f"{work}/sources.list", "Dir::Etc::SourceParts": "/dev/null"}


def adapt(root: Path, home: Path, patchelf: Path) -> None:
    """Make the programs below `root` run from `home`, where it is going to lie, with the libraries of `home`."""
    loader = next(iter(sorted(root.glob("usr/lib64/ld-linux-*.so.*"))), None)
    if loader is None:
        raise ServerError("the suite's packages hold no loader (ld-linux): they cannot run here")
    libraries = ":".join(str(home / path.relative_to(root)) for path in root.glob("usr/lib/*-linux-gnu"))
    erlang = root / "usr/lib/erlang"
    # With these a node starts a second one, as a member of a cluster does before it joins (4.0).
    for script in (*erlang.glob("bin/erl"), *erlang.glob("erts-*/bin/erl")):
        script.write_text(script.read_text().replace("ROOTDIR=/usr/", f"ROOTDIR={home}/usr/"))
    for program in erlang.rglob("*"):
        if not program.is_file() or program.is_symlink() or program.read_bytes()[:4] != _ELF:
            continue
        options = ["--force-rpath", "--set-rpath", libraries]
        if program.suffix != ".so":
            options += ["--set-interpreter", str(home / loader.relative_to(root))]
        done = subprocess.run([str(patchelf), *options, str(program)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"patchelf {program} failed: {done.stderr.strip()}")


def _origin() -> tuple[str, str]:
    """The address and keyring of the system's Debian archive, in either of apt's two formats."""
    texts = [path.read_text() for path in sorted(_SOURCES.glob("sources.list.d/*.sources"))]
    for paragraph in re.split(r"\n\s*\n", "\n\n".join(texts)):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if "main" in fields.get("Components", "").split() and "security" not in fields.get("Suites", ""):
            return fields["URIs"].split()[0], fields.get("Signed-By", "").strip()
    for path in (_SOURCES / "sources.list", *sorted(_SOURCES.glob("sources.list.d/*.list"))):
        found = re.findall(r"^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s.*\bmain\b", _text(path), re.MULTILINE)
        for options, uri, suite in found:
            if "security" not in suite:
                keyring = re.search(r"signed-by=(\S+)", options)
                return uri, keyring[1] if keyring else ""
    raise ServerError("no Debian archive found in /etc/apt: packages of another suite cannot be had here")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
