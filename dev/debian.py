"""RabbitMQ from Debian's packages without installing them: fetched with a private apt state, unpacked in the clone.

No root, no service, no file outside the cache directory. An installed RabbitMQ is used where there is one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dev import foreign
from dev.process import ServerError

CACHE = Path(__file__).resolve().parent.parent / ".cache"
PACKAGE = "rabbitmq-server"
INSTRUCTION = """\
Install RabbitMQ, and keep its service from running if you do not want it:
    sudo apt-get install --no-install-recommends rabbitmq-server
    sudo systemctl disable --now rabbitmq-server"""
_STATUS = Path("/var/lib/dpkg/status")
# Every module is looked up in every plugin's directory: without these the broker starts in 60 % of the time.
_UNUSED_PLUGINS = (
    "eetcd",
    "prometheus",
    "rabbitmq_amqp1_0",
    "rabbitmq_auth_",
    "rabbitmq_event_",
    "rabbitmq_federation_prometheus",
    "rabbitmq_jms_",
    "rabbitmq_mqtt",
    "rabbitmq_peer_",
    "rabbitmq_prometheus",
    "rabbitmq_random_",
    "rabbitmq_recent_",
    "rabbitmq_sharding",
    "rabbitmq_shovel_prometheus",
    "rabbitmq_stomp",
    "rabbitmq_stream",
    "rabbitmq_top",
    "rabbitmq_tracing",
    "rabbitmq_trust_",
    "rabbitmq_web_mqtt",
    "rabbitmq_web_stomp",
)
_SERVERS = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"
_PREFIX = "rabbitmq-"
_HOME = "home"  # file of a fetched release: where it must lie to run

# The packaged erl has /usr/lib/erlang written into it; this one finds the Erlang that lies beside it. Libraries are
# looked for here only if the system lacks them: they come from its own suite, so they fit its libc.
_ERL = """\
#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")
ROOTDIR=$root/usr/lib/erlang
BINDIR=$(echo "$ROOTDIR"/erts-*/bin)
EMU=beam
PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
{libraries}exec "$BINDIR/erlexec" "$@"
"""
_ESCRIPT = """\
#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")
ESCRIPT_EMULATOR=$root/bin/erl exec "$root/usr/lib/erlang/bin/escript" "$@"
"""
_LIBRARIES = """\
for directory in "$root"/usr/lib/*-linux-gnu "$root"/lib/*-linux-gnu; do
    [ -d "$directory" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$directory
done
export LD_LIBRARY_PATH
"""


@dataclass(frozen=True)
class Release:
    """The files of one RabbitMQ: `sbin` with its scripts, `path` with the `erl` and `epmd` they need."""

    sbin: Path
    path: Path

    @property
    def version(self) -> str:
        return self.sbin.parent.name.removeprefix("rabbitmq_server-")

    @property
    def epmd(self) -> Path:
        return self.path / "epmd"

    @property
    def erl_call(self) -> Path:
        """Erlang's small client of a node; in Debian part of erlang-base, as epmd."""
        return self.epmd.resolve().with_name("erl_call")

    @property
    def libraries(self) -> tuple[Path, Path]:
        """The directories of applications: RabbitMQ's and Erlang's."""
        return self.sbin.parent / "plugins", self.epmd.resolve().parents[2] / "lib"


def find(suite: str | None = None, cache: Path = CACHE) -> Release:
    """The system's RabbitMQ if it is installed and no `suite` is asked for, else a fetched one."""
    if suite is None and (installed := _release(Path("/"), Path("/usr/bin"))):
        return installed
    return fetch(suite, cache)


def fetch(suite: str | None = None, cache: Path = CACHE) -> Release:
    """Fetch RabbitMQ of a Debian suite (None: the system's own) unless the cache has it; ServerError if that fails."""
    cache.mkdir(parents=True, exist_ok=True)
    name = suite or "system"
    if found := _cached(cache, name):  # what is there waits for no fetch of something else
        return found
    with locked(cache / "lock"):
        if found := _cached(cache, name):
            return found
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise ServerError(f"RabbitMQ is not installed, and without {tool} it cannot be fetched.\n{INSTRUCTION}")
        print(f"fetching RabbitMQ from Debian's packages, once, into {cache}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
            _download_and_unpack(Path(work), cache, suite)
        if found := _cached(cache, name):
            return found
    raise ServerError(f"the packages of {name} hold no RabbitMQ where it was expected.\n{INSTRUCTION}")


def _download_and_unpack(work: Path, cache: Path, suite: str | None) -> None:
    root = work / "root"
    archives = _download(work / "apt", suite, "install", "--no-install-recommends", "--download-only", PACKAGE)
    wanted = foreign.NEEDED if suite else ("",)
    for archive in archives:
        if archive.name.startswith(wanted):
            _run(["dpkg-deb", "-x", str(archive), str(root)], None)
    _set_plugins_aside(root)
    version = next((a.name.split("_")[1] for a in archives if a.name.startswith(PACKAGE + "_")), "unknown")
    home = cache / f"{_PREFIX}{suite or 'system'}-{version}"
    if suite:
        foreign.adapt(root, home, _patchelf(work))
    bin_ = root / "bin"
    bin_.mkdir()
    for name, text in (("erl", _ERL.format(libraries="" if suite else _LIBRARIES)), ("escript", _ESCRIPT)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    (bin_ / "epmd").symlink_to("../usr/lib/erlang/bin/epmd")
    (root / _HOME).write_text(str(home) if suite else "anywhere")
    shutil.rmtree(home, ignore_errors=True)
    root.rename(home)


def _download(work: Path, suite: str | None, *command: str) -> list[Path]:
    """Run an apt-get command that downloads; the archives it brought."""
    env = _apt_environment(work, suite)
    _run(["apt-get", "update", "-qq"], env)
    _run(["apt-get", "-qq", "-y", *command], env, work / "cache/archives")
    return sorted((work / "cache/archives").glob("*.deb"))


def unpack(work: Path, *packages: str) -> Path:
    """Download packages of the system's suite below `work`, without what they depend on; where they are unpacked."""
    root = work / "root"
    for archive in _download(work / "apt", None, "download", *packages):
        _run(["dpkg-deb", "-x", str(archive), str(root)], None)
    return root


def unpack_all(work: Path, *packages: str, suite: str | None = None) -> Path:
    """The same with whatever they depend on that is not installed here; of another suite, with all of it."""
    root = work / "root"
    for archive in _download(
        work / "apt", suite, "install", "--no-install-recommends", "--download-only", "--no-remove", *packages
    ):
        _run(["dpkg-deb", "-x", str(archive), str(root)], None)
    return root


def _patchelf(work: Path) -> Path:
    """The system's patchelf, or its suite's, unpacked."""
    if installed := shutil.which("patchelf"):
        return Path(installed)
    for archive in _download(work / "apt-patchelf", None, "download", "patchelf"):
        _run(["dpkg-deb", "-x", str(archive), str(work / "patchelf")], None)
    return work / "patchelf/usr/bin/patchelf"


def _set_plugins_aside(root: Path) -> None:
    for plugins in root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins"):
        aside = plugins.with_name("plugins.unused")
        aside.mkdir()
        for plugin in plugins.iterdir():
            if plugin.name.startswith(_UNUSED_PLUGINS):
                plugin.rename(aside / plugin.name)


def _apt_environment(work: Path, suite: str | None) -> dict[str, str]:
    """The environment of an apt that reads the system's sources and writes below `work` only."""
    parts = work / "apt.conf.d"
    for directory in (parts, work / "state/lists/partial", work / "cache/archives/partial"):
        directory.mkdir(parents=True)
    for part in Path("/etc/apt/apt.conf.d").glob("*"):
        (parts / part.name).symlink_to(part)
    settings = {
        "Dir::State": f"{work}/state",
        "Dir::Cache": f"{work}/cache",
        "Dir::State::status": f"{work}/status",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",  # a clone below /root is closed to apt's own user
        "Acquire::Languages": "none",
    }
    status = _STATUS.read_text(errors="replace") if suite is None and _STATUS.exists() else ""
    if suite:
        settings |= foreign.sources(work, suite)
    # An Erlang that is half installed would be unpacked half: ours is complete or absent.
    kept = [paragraph for paragraph in status.split("\n\n") if "erlang" not in paragraph]
    (work / "status").write_text("\n\n".join(kept))
    # The system's hooks empty caches and wake services: not on our behalf.
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
    text = "".join(f"#clear {hook};\n" for hook in hooks)
    text += "".join(f'{key} "{value}";\n' for key, value in settings.items())
    (parts / "zzz-private").write_text(text)
    (work / "apt.conf").write_text(f'Dir::Etc::parts "{parts}";\n')
    return {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


def _run(command: list[str], env: dict[str, str] | None, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()
        raise ServerError(f"{' '.join(command)} failed with status {done.returncode}:\n{output}\n{INSTRUCTION}")


def _cached(cache: Path, name: str) -> Release | None:
    for root in sorted(cache.glob(f"{_PREFIX}{name}-*"), reverse=True):
        home = root / _HOME
        if home.exists() and home.read_text() in {"anywhere", str(root)} and (found := _release(root, root / "bin")):
            return found
    return None


def _release(root: Path, path: Path) -> Release | None:
    found = sorted(root.glob(_SERVERS))
    return Release(found[-1], path) if found and (path / "erl").exists() else None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One fetch at a time, also between processes."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
