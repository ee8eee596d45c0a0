"""Hosts on this machine: network namespaces whose cables are in one switch, until some are plugged into another.

What is cut off is not told: no connection ends, no packet is refused, the link stays up. It takes root, iproute2 and
util-linux. A namespace lives as long as the process that holds it: where that is killed (session.py), nothing is left.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from dev.process import Process, ServerError, start, wait_until
from dev.session import PROCESS

_TOOLS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}  # and their Debian packages
_CLONE_NEWNET = 0x40000000
_SWITCH = "switch0"  # where all are; switch1 and so on: the cut-off groups'
_OURS = 254  # the last byte of our own address

T = TypeVar("T")


class Host:
    """A namespace, and its address.

    Args:
        directory: of its own.
        name: also of its socket in the switch.
        address, link: of its network card.
    """

    def __init__(self, directory: Path, name: str, address: str, link: str) -> None:
        self.name = name
        self.address = address
        self.link = link
        self.pid = 0
        self._directory = directory

    def start(self) -> None:
        """Make the namespace. ServerError if that is not allowed."""
        self._directory.mkdir(parents=True)
        log = self._directory / "namespace.log"
        holder = start(["unshare", "--net", "sleep", "infinity"], log, cwd=self._directory)
        holder.save(self._directory / PROCESS)
        self.pid = holder.pid
        ours = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: not holder.alive() or self._namespace.readlink() != ours, 10, "a network namespace")
        if not holder.alive():
            raise ServerError(f"no network namespace can be had: {log.read_text()}")

    def remove(self) -> None:
        if holder := Process.load(self._directory / PROCESS):
            holder.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def prefix(self) -> list[str]:
        """What to put before a command that is to run there."""
        return ["nsenter", f"--net={self._namespace}"]

    def ip(self, *commands: str) -> None:
        """Run commands of ip there. ServerError with its words if one fails."""
        _ip(commands, self.prefix)

    def call(self, do: Callable[[], T]) -> T:
        """Call it in a thread that is there: a socket that it makes stays there."""

        def inside() -> T:
            with self._namespace.open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                    raise ServerError(f"setns: {os.strerror(ctypes.get_errno())}")
            return do()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(inside).result()

    @property
    def _namespace(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")


class Network:
    """Hosts, and the namespace that we are in, on one switch. Made by `start`, removed by `remove`.

    Args:
        directory: of its own.
        names: of the hosts; at most three letters each.
    """

    def __init__(self, directory: Path, *names: str) -> None:
        self.directory = directory
        # Of the addresses for tests of networks (RFC 2544), 256 of them for each process.
        self._net = f"198.{18 + os.getpid() // 256 % 2}.{os.getpid() % 256}"
        self._switch = Host(directory / "switch", "switch", "", "")
        self.hosts = [self._host(name, number) for number, name in enumerate(names, 1)]
        self.here = Host(directory / "here", "us", f"{self._net}.{_OURS}", f"relay{os.getpid()}"[:15])
        self.here.pid = os.getpid()

    @staticmethod
    def missing() -> str:
        """What is not to be had here; empty = nothing."""
        if os.geteuid() != 0:
            return "network namespaces take root"
        return ", ".join(f"{tool} ({package})" for tool, package in _TOOLS.items() if not shutil.which(tool))

    def start(self) -> None:
        """Lay it out. ServerError if that is not allowed."""
        for host in (self._switch, *self.hosts):
            host.start()
        for number in range(len(self.hosts) + 1):
            self._switch.ip(f"link add switch{number} type bridge", f"link set switch{number} up")
        everybody = [*self.hosts, self.here]
        for number, host in enumerate(everybody):
            peer = f"name {host.link} address {_hardware(number)} netns {host.pid}"
            self._switch.ip(
                f"link add name {host.name} type veth peer {peer}", f"link set dev {host.name} master {_SWITCH} up"
            )
            # Where addresses are known by heart, a packet to who is cut off vanishes; else it is refused after 3 s.
            host.ip(
                "link set lo up",
                f"addr add {host.address}/24 dev {host.link}",
                f"link set {host.link} up",
                *(
                    f"neigh add {other.address} lladdr {_hardware(where)} nud permanent dev {host.link}"
                    for where, other in enumerate(everybody)
                    if other is not host
                ),
            )

    def cut(self, *groups: Iterable[Host]) -> None:
        """From now on the hosts of a group reach each other and nobody else; those in none are together."""
        self._switch.ip(
            *(
                f"link set dev {host.name} master switch{number}"
                for number, group in enumerate(groups, 1)
                for host in group
            )
        )

    def part(self, *hosts: Host) -> None:
        """These do not reach each other any more; all else is as it was."""
        self._switch.ip(*(f"link set dev {host.name} type bridge_slave isolated on" for host in hosts))

    def heal(self) -> None:
        """All reach each other again."""
        for host in (*self.hosts, self.here):
            self._switch.ip(
                f"link set dev {host.name} master {_SWITCH}", f"link set dev {host.name} type bridge_slave isolated off"
            )

    def remove(self) -> None:
        """End it; what still runs in a namespace keeps that one."""
        for host in (self._switch, *self.hosts):
            host.remove()

    def _host(self, name: str, number: int) -> Host:
        return Host(self.directory / name, name, f"{self._net}.{number}", "eth0")


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _ip(commands: Iterable[str], prefix: list[str]) -> None:
    done = subprocess.run(
        [*prefix, "ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ServerError(f"ip failed: {done.stderr}")
