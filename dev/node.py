"""One private RabbitMQ node in a directory: its files, its environment, its processes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from dev import debian, erlang
from dev.namespaces import Host
from dev.process import Process, ServerError, answers, free_port, start, tail, wait_until
from dev.server import Running

START_SECONDS = 120
STOP_SECONDS = 60
API_SECONDS = 30
DISK_FREE_LIMIT = 50_000_000  # bytes
MEMORY_WATERMARK = 0.4  # of the machine's
ADMIN = "admin"
_PORTS = ("amqp", "management", "distribution", "epmd")


@dataclass(frozen=True)
class Group:
    """What the nodes of a cluster share.

    Args:
        epmd: the port of the one that knows them all and is not a node's own; or of that of each host.
        cookie, password: Erlang's and the administrator's.
        partitions: cluster_partition_handling.
        first: the node that the others join.
        ticktime: Erlang's net_ticktime, seconds after which a silent node is taken for dead.
    """

    epmd: int
    cookie: str
    password: str
    partitions: str
    first: str
    ticktime: int


def node_name(directory: Path, host: Host | None = None) -> str:
    """Of the node in a directory."""
    # "localhost" keeps the node independent of the machine's name and of its resolver, and so does an address.
    where = host.address if host else "localhost"
    return f"relay-{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:8]}@{where}"


def start_epmd(release: debian.Release, port: int, directory: Path, host: Host | None = None) -> Process:
    """Erlang's name server, for loopback alone or for a host. ServerError if it does not start."""
    output = directory / "epmd.log"
    address, prefix = (host.address, host.prefix) if host else ("127.0.0.1", [])
    env = {**os.environ, "ERL_EPMD_ADDRESS": address}
    epmd = start([*prefix, str(release.epmd), "-port", str(port)], output, env, directory)
    wait_until(lambda: answers(port, address) or not epmd.alive(), START_SECONDS, "epmd to take connections")
    if not epmd.alive():
        raise ServerError(f"epmd ended while starting\n{tail(output)}")
    return epmd


class Node(Running):
    """A broker; made by the first `start`, its data kept by `stop` and `kill`, removed by `remove`.

    Ports, password and cookie are written in the directory: a second object on the same directory is the same broker.
    `suite` asks for the RabbitMQ of a Debian suite ("trixie"), as RABBITMQ_SUITE in the environment does for all;
    None takes the installed one, or else the one of the system's suite. `tls`: a directory with cert.pem, key.pem and
    ca.pem; then it speaks amqps as well, to whoever shows a certificate of that authority. `group`: of a cluster
    (cluster.py). `host`: where it runs, instead of on loopback.
    """

    def __init__(
        self,
        directory: Path,
        *,
        suite: str | None = None,
        metrics: bool = False,
        tls: Path | None = None,
        group: Group | None = None,
        host: Host | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "log" / "rabbitmq.log"
        self.output = self.directory / "output.log"
        self._suite = suite or os.environ.get("RABBITMQ_SUITE") or None
        self._metrics = metrics
        self._tls = tls
        self._group = group
        self._host = host
        self.address = host.address if host else "127.0.0.1"
        self._pid = self.directory / "process"
        self._epmd_pid = self.directory / "epmd.process"
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy of the environment is not for loopback

    @property
    def release(self) -> debian.Release:
        return debian.find(self._suite)

    @property
    def settings(self) -> dict[str, Any]:
        """The ports and secrets of this broker, as made by its first start."""
        found: dict[str, Any] = json.loads((self.directory / "settings.json").read_text())
        return found

    @property
    def port(self) -> int:
        return int(self.settings["amqp"])

    @property
    def tls_port(self) -> int:
        return int(self.settings["amqps"])

    @property
    def management_port(self) -> int:
        return int(self.settings["management"])

    @property
    def password(self) -> str:
        """The administrator's."""
        return str(self.settings["password"])

    @property
    def node(self) -> str:
        return node_name(self.directory, self._host)

    @property
    def prefix(self) -> list[str]:
        """What stands before its commands."""
        return self._host.prefix if self._host else []

    def url(self, vhost: str = "/", user: str = ADMIN, password: str | None = None) -> str:
        secret = self.password if password is None else password
        return f"amqp://{quote(user)}:{quote(secret, safe='')}@{self.address}:{self.port}/{quote(vhost, safe='')}"

    def start(self) -> None:
        """Returns when the broker takes connections; ServerError with its log's tail if it does not."""
        if self.process:
            return
        if not (self.directory / "settings.json").exists():
            self._init()
        env = self._environment()
        self._start_epmd(env)
        (self.directory / erlang.FILE).write_text(erlang.modules(*self.release.libraries))
        server = [*self.prefix, str(self.release.sbin / "rabbitmq-server")]
        process = start(server, self.output, env | {"ERL_AFLAGS": erlang.FLAGS}, self.directory)
        process.save(self._pid)
        try:
            wait_until(lambda: self._listens() or not process.alive(), START_SECONDS, "RabbitMQ to take connections")
        except AssertionError as error:
            self.kill()
            raise ServerError(f"{error}\n{tail(self.output)}\n{tail(self.log)}") from error
        if not process.alive():
            self.kill()
            raise ServerError(f"RabbitMQ ended while starting\n{tail(self.output)}\n{tail(self.log)}")

    def _start_epmd(self, env: dict[str, str]) -> None:
        """Started here, in a session of its own: an epmd that Erlang starts by itself outlives the broker."""
        if not ((self._group and not self._host) or Process.load(self._epmd_pid)):
            made = start_epmd(self.release, int(env["ERL_EPMD_PORT"]), self.directory, self._host)
            made.save(self._epmd_pid)

    def stop(self) -> None:
        """Stop it in order; a broker that does not end in time is killed. Its epmd ends with it."""
        if process := self.process:
            process.resume()
            process.signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL everything, as a crash of the host does."""
        for path in (self._pid, self._epmd_pid):
            if process := Process.load(path):
                process.kill()
            path.unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        """Kill it and delete its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _init(self) -> None:
        (self.directory / "log").mkdir(parents=True, exist_ok=True)
        made: dict[str, Any] = {name: free_port() for name in (*_PORTS, *(["amqps"] if self._tls else []))}
        made["password"] = self._group.password if self._group else secrets.token_hex(16)
        made["epmd"] = self._group.epmd if self._group else made["epmd"]
        cookie = self.directory / ".erlang.cookie"
        cookie.unlink(missing_ok=True)
        cookie.write_text(self._group.cookie if self._group else secrets.token_hex(20))
        cookie.chmod(0o400)  # Erlang insists
        configuration = self.directory / "rabbitmq.config"
        configuration.touch(0o600)
        configuration.write_text(self._configuration(made))
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
        complete = self.directory / "settings.json"
        complete.touch(0o600)
        complete.write_text(json.dumps(made))

    def _configuration(self, made: dict[str, Any]) -> str:
        """In Erlang's terms: to read a rabbitmq.conf the node first parses every plugin's schema."""
        rabbit = [
            f'{{tcp_listeners, [{{"{self.address}", {made["amqp"]}}}]}}',
            f'{{default_user, <<"{ADMIN}">>}}',
            f'{{default_pass, <<"{made["password"]}">>}}',
            f"{{vm_memory_high_watermark, {MEMORY_WATERMARK}}}",
            f"{{disk_free_limit, {DISK_FREE_LIMIT}}}",
            "{log, [{file, [{level, info}]}]}",
        ]
        if self._group:
            rabbit.append(f"{{cluster_partition_handling, {self._group.partitions}}}")
            rabbit.append(f"{{cluster_nodes, {{['{self._group.first}'], disc}}}}")
        if self._tls:
            files = {"cacertfile": "ca.pem", "certfile": "cert.pem", "keyfile": "key.pem"}
            options = [f"{{{key}, {json.dumps(str(self._tls / file))}}}" for key, file in files.items()]
            options += ["{verify, verify_peer}", "{fail_if_no_peer_cert, true}"]
            rabbit.append(f'{{ssl_listeners, [{{"127.0.0.1", {made["amqps"]}}}]}}')
            rabbit.append(f"{{ssl_options, [{', '.join(options)}]}}")
        management = f'{{tcp_config, [{{ip, "{self.address}"}}, {{port, {made["management"]}}}]}}'
        agent = f"{{disable_metrics_collector, {'false' if self._metrics else 'true'}}}"
        applications = {"rabbit": rabbit, "rabbitmq_management": [management], "rabbitmq_management_agent": [agent]}
        terms = [f"{{{name}, [{', '.join(settings)}]}}" for name, settings in applications.items()]
        return "[" + ",\n ".join(terms) + "].\n"

    def _environment(self) -> dict[str, str]:
        """What the scripts read; nothing of a RabbitMQ or an Erlang around us gets in."""
        made = self.settings
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))}
        interface = self.address.replace(".", ",")
        ticktime = f" -kernel net_ticktime {self._group.ticktime}" if self._group else ""
        local = f"-start_epmd false -kernel inet_dist_use_interface {{{interface}}}"
        return env | {
            "PATH": f"{self.release.path}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(made["epmd"]),
            "ERL_EPMD_ADDRESS": self.address,
            "ERL_CRASH_DUMP": str(self.directory / "log" / "erl_crash.dump"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_USE_LONGNAME": "true" if self._host else "false",
            "RABBITMQ_NODE_PORT": str(made["amqp"]),
            "RABBITMQ_DIST_PORT": str(made["distribution"]),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.directory / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_LOGS": str(self.log),
            "RABBITMQ_PID_FILE": str(self.directory / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": local + ticktime,
            "RABBITMQ_CTL_ERL_ARGS": local,
            # 0: any port; the default is a range of ten beginning at 35672, shared by everybody.
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            # The script then becomes the Erlang machine instead of a shell that watches it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "LC_ALL": "C.UTF-8",
        }

    def _request(self, method: str, path: str, body: object = None) -> requests.Response:
        url = f"http://{self.address}:{self.management_port}/api{path}"
        auth = (ADMIN, self.password)
        # Not kept alive: with an idle connection open, the broker takes five seconds longer to stop.
        headers = {"Connection": "close"}
        return self._http.request(method, url, json=body, auth=auth, headers=headers, timeout=API_SECONDS)

    def _listens(self) -> bool:
        # Asked for seconds on end: a request would cost ten times as much.
        if not answers(self.management_port, self.address):
            return False
        try:
            return self._request("GET", f"/health/checks/port-listener/{self.port}").ok
        except requests.RequestException:
            return False
