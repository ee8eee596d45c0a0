"""python -m dev.package [DIRECTORY]: relay_<version>_all.deb, by dpkg-deb. It needs neither root nor a network.

Whoever builds it for others says who that is, as with all of Debian's tools: DEBFULLNAME and DEBEMAIL.

What belongs where stands in `lay_out`; packaging/ has the parts that are the package's own.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import listen
import relay
from dev import manual
from relay.receiving import arguments

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "packaging"
CHECKOUT = "/opt/relay"  # where README.md, and so the units, expect a checkout
FILE, PROGRAM = 0o644, 0o755

DEBIAN = {  # what requirements.in names: Debian's package, with the oldest version that was tried: Debian 12's
    "psycopg2-binary": "python3-psycopg2 (>= 2.9.5)",
    "pika": "python3-pika (>= 1.2.0)",
    "requests": "python3-requests (>= 2.28)",
    "python-dotenv": "python3-dotenv (>= 0.21)",
    "tqdm": "python3-tqdm",
    "httptools": "python3-httptools",
    "prometheus-client": "python3-prometheus-client",
}
DOCUMENTS = "/usr/share/doc/relay"
SEE = [f"{DOCUMENTS}/README.md", f"{DOCUMENTS}/config.example.env"]
PAGES = {
    "relay-listen": ("relay-listen [NAME]", listen.parser, "listen.env, or what the unit relay-listen@NAME reads"),
    "relay-receiver": (
        "relay-receiver NAME",
        arguments.parser,
        "what relay-receiver NAME and relay-receiver@NAME read",
    ),
}


def main() -> int:
    """Build into a directory, by default dist; print the package's path."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"
    sys.stdout.write(f"{build(directory)}\n")
    return 0


def build(directory: Path) -> Path:
    """Make the package in `directory`. Return its path.

    Raises:
        SystemExit: requirements.in asks for what DEBIAN does not know.
        subprocess.CalledProcessError: dpkg-deb's, with its words on stderr.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"relay_{relay.__version__}_all.deb"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "relay"
        lay_out(root)
        _describe(root)
        for path in (root, *root.rglob("*")):
            if path.is_dir():
                path.chmod(PROGRAM)  # whatever the umask says
        command = ["dpkg-deb", "--root-owner-group", "--build", str(root), str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target


def lay_out(root: Path) -> None:
    """Put every file where it will be installed."""
    for script in ("connection.py", "listen.py", "receiver.py"):
        _copy(ROOT / script, root / "usr/lib/relay" / script)
    for source in sorted((ROOT / "relay").rglob("*.py")):
        _copy(source, root / "usr/lib/relay" / source.relative_to(ROOT))
    for source in sorted((ROOT / "sql").rglob("*.sql")):
        _copy(source, root / "usr/share/relay" / source.relative_to(ROOT))
    (root / "usr/lib/relay/sql").symlink_to("../../share/relay/sql")  # where relay.listening.database looks for it
    for program in PAGES:
        _copy(PARTS / "launcher.py", root / "usr/bin" / program, PROGRAM)
        _write(root / f"usr/share/man/man1/{program}.1.gz", gzip.compress(manual_page(program).encode(), mtime=0))
    for unit in sorted((ROOT / "systemd").glob("*.service")):
        _write(root / "usr/lib/systemd/system" / unit.name, installed(unit.read_text()).encode())
    _copy(PARTS / "debian/logrotate", root / "etc/logrotate.d/relay")
    documents = root / DOCUMENTS.lstrip("/")
    for name in ("README.md", "CHANGELOG.md", "config.example.env", "mapping.example.toml"):
        _copy(ROOT / name, documents / name)
    for source in sorted(path for path in (ROOT / "docs").rglob("*") if path.is_file()):
        _copy(source, documents / source.relative_to(ROOT))
    for source in sorted(path for path in (ROOT / "examples").iterdir() if path.is_file()):
        _copy(source, documents / "examples" / source.name, FILE if source.suffix else PROGRAM)
    _copy(ROOT / "LICENSE", documents / "copyright")
    _copy(PARTS / "debian/lintian-overrides", root / "usr/share/lintian/overrides/relay")
    _write(documents / "changelog.gz", gzip.compress(_changelog().encode(), mtime=0))


def installed(unit: str) -> str:
    """A unit of systemd/ for the package: its programs instead of a checkout's; nothing is left to be copied."""
    text = re.sub(r"\A(#.*\n)+", "", unit)
    text = text.replace(f"Documentation=file://{CHECKOUT}/", f"Documentation=file://{DOCUMENTS}/")
    text = text.replace(f"WorkingDirectory={CHECKOUT}", "WorkingDirectory=/usr/lib/relay")
    for program, script in (("relay-listen", "listen.py"), ("relay-receiver", "receiver.py")):
        text = text.replace(f"{CHECKOUT}/.venv/bin/python {CHECKOUT}/{script}", f"/usr/bin/{program}")
    return text


def manual_page(program: str) -> str:
    """The manual page of /usr/bin/`program`."""
    usage, make, what = PAGES[program]
    before, sys.argv = sys.argv, [usage]  # argparse takes the name from there
    try:
        parser = make()
    finally:
        sys.argv = before
    return manual.page(parser, program, [("/etc/relay/NAME.env", f"settings: {what}")], SEE, relay.__version__)


def _maintainer() -> str:
    name = os.environ.get("DEBFULLNAME") or "The authors of this relay"
    return f"{name} <{os.environ.get('DEBEMAIL') or 'root@localhost'}>"


def _changelog() -> str:
    """What Debian asks for; CHANGELOG.md is beside it."""
    date = email.utils.formatdate((ROOT / "CHANGELOG.md").stat().st_mtime)
    return (
        f"relay ({relay.__version__}) unstable; urgency=medium\n\n"
        f"  * {DOCUMENTS}/CHANGELOG.md tells what is new.\n\n -- {_maintainer()}  {date}\n"
    )


def depends() -> str:
    """Debian's packages for what requirements.in names."""
    names = [line.split("==")[0] for line in (ROOT / "requirements.in").read_text().splitlines() if line[:1].isalpha()]
    names = [re.split(r"[<>=!~\[]", name)[0] for name in names]
    if unknown := set(names) - set(DEBIAN):
        raise SystemExit(f"dev.package: name Debian's package for {', '.join(sorted(unknown))} in DEBIAN")
    return ", ".join(DEBIAN[name] for name in names)


def _describe(root: Path) -> None:
    """DEBIAN/: control, the scripts, the files of /etc, the sums of all others."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    kib = sum(path.stat().st_size for path in files) // 1024
    known = {"@VERSION@": relay.__version__, "@DEPENDS@": depends(), "@SIZE@": str(kib), "@MAINTAINER@": _maintainer()}
    for name, mode in (("control", FILE), ("postinst", PROGRAM), ("prerm", PROGRAM), ("postrm", PROGRAM)):
        text = re.sub("@[A-Z]+@", lambda found: known[found[0]], (PARTS / "debian" / name).read_text())
        _write(root / "DEBIAN" / name, text.encode(), mode)
    names = {path: path.relative_to(root).as_posix() for path in files}
    in_etc = [name for name in names.values() if name.startswith("etc/")]
    _write(root / "DEBIAN/conffiles", "".join(f"/{name}\n" for name in in_etc).encode())
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {name}\n" for path, name in names.items()]  # noqa: S324
    _write(root / "DEBIAN/md5sums", "".join(sums).encode())


def _copy(source: Path, target: Path, mode: int = FILE) -> None:
    _write(target, source.read_bytes(), mode)


def _write(target: Path, content: bytes, mode: int = FILE) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)


if __name__ == "__main__":
    sys.exit(main())
