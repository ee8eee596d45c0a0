"""A systemd of a test's own, as process 1 of namespaces: this machine's program with the units of systemd/ as they are.

Nothing of it is outside: /etc, /opt, /var/log, /var/tmp, /tmp and /run are layers in memory. Its processes end with it.
It needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dev.process import wait_until

ROOT = Path(__file__).parents[1]
SYSTEMD = Path("/usr/lib/systemd/systemd")

needed = pytest.mark.skipif(
    not (os.geteuid() == 0 and SYSTEMD.exists() and shutil.which("unshare")),
    reason="a systemd of one's own needs root, systemd and unshare",
)

# Run as process 1 of the namespaces; $1 is the test's directory, $2 systemd. What lies below its `files` is laid over
# the machine's. SYSTEMD_UNIT_PATH hides the machine's own units.
_BEGIN = """\
set -eu
mkdir -p /mnt
mount --bind "$1" /mnt
mount -t cgroup2 none /sys/fs/cgroup
for top in etc opt; do
    mkdir -p "/mnt/layers/$top"
    mount -t tmpfs none "/mnt/layers/$top"
    mkdir "/mnt/layers/$top/upper" "/mnt/layers/$top/work"
    mount -t overlay none -o "lowerdir=/$top,upperdir=/mnt/layers/$top/upper,workdir=/mnt/layers/$top/work" "/$top"
done
for top in run tmp var/tmp var/log; do mount -t tmpfs none "/$top"; done
cp -r /mnt/files/. /
grep -q ^relay: /etc/passwd || echo relay:x:6789:6789::/:/usr/sbin/nologin >>/etc/passwd
grep -q ^relay: /etc/group || echo relay:x:6789: >>/etc/group
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system
exec "$2" --system --unit=trial.target --log-target=console --show-status=no
"""
# What of that a container may not let even root do.
_TRY = """\
set -eu
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
"""
_NAMESPACES = ["unshare", "--pid", "--mount", "--cgroup", "--uts", "--ipc", "--propagation", "private"]
_NAMESPACES += ["--fork", "--kill-child", "--mount-proc", "sh", "-c"]
_TARGET = "[Unit]\nDefaultDependencies=no\nWants={wanted}\n"


@contextlib.contextmanager
def systemd(directory: Path, files: Mapping[str, str], start: str) -> Iterator[Path]:
    """Run it.

    Args:
        directory: for what it writes; /mnt inside.
        files: by absolute path, more files; those that begin with #! are programs.
        start: the units to start, separated by spaces.

    Yields:
        The file to which the alerts' units write.
    """
    units = {f"/etc/systemd/system/{unit.name}": unit.read_text() for unit in (ROOT / "systemd").glob("*.service")}
    for name in ("sysinit", "basic", "network-online", "shutdown"):
        units[f"/etc/systemd/system/{name}.target"] = "[Unit]\nDefaultDependencies=no\n"
    units["/etc/systemd/system/trial.target"] = _TARGET.format(wanted=start)
    for unit in ("relay-alert@", "relay-crashed@"):
        units[f"/etc/systemd/system/{unit}.service.d/test.conf"] = "[Service]\nStandardOutput=append:/mnt/told\n"
    for name, text in {**units, **files}.items():
        path = directory / "files" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    told = directory / "told"
    told.touch()
    directory.chmod(0o755)
    tried = subprocess.run([*_NAMESPACES, _TRY], capture_output=True, text=True, check=False, timeout=30)
    if tried.returncode != 0:
        pytest.skip(f"no namespaces with mounts of their own: {tried.stderr.strip()}")
    with _cgroup() as group:
        command = [*_NAMESPACES, _BEGIN, "sh", str(directory), str(SYSTEMD)]
        inside = ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(group), *command]
        process = subprocess.Popen(inside, stdin=subprocess.DEVNULL)
        try:
            yield told
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    """A cgroup for all its processes."""
    mounted = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    root = next((path for path in mounted if (path / "cgroup.procs").exists()), None)
    if root is None or not os.access(root / "cgroup.procs", os.W_OK):
        pytest.skip("no cgroup2 that may be written to is mounted here")
    group = root / f"relay-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        wait_until(lambda: "populated 0" in (group / "cgroup.events").read_text(), 10, "the end of all its processes")
        for path, _directories, _files in os.walk(group, topdown=False):
            Path(path).rmdir()
