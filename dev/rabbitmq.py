"""A private RabbitMQ broker: a node, and what its administrator can do to it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika

from dev import debian
from dev.node import ADMIN, API_SECONDS, DISK_FREE_LIMIT, MEMORY_WATERMARK, Node
from dev.process import ServerError, wait_until

CTL_SECONDS = 60
MAX_MESSAGE_SIZE = 128 << 20  # bytes, RabbitMQ's default (4.0: 16 MiB)


class RabbitMQ(Node):
    """A node with its administration: over the management API where it can, by rabbitmqctl where it must."""

    @staticmethod
    def fetch(suite: str | None = None) -> debian.Release:
        """Have the files of a suite's RabbitMQ in the clone's cache, without starting it."""
        return debian.fetch(suite)

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl as an operator does; it costs a second of processor time, so prefer `api` and `evaluate`.

        ServerError with its words if it fails.
        """
        return self._run([str(self.release.sbin / "rabbitmqctl"), "--quiet", *arguments])

    def evaluate(self, expression: str) -> str:
        """Evaluate an Erlang expression in the node and return its value as Erlang writes it.

        By erl_call, which is no Erlang machine and costs next to nothing. ServerError if it fails.
        """
        address = f"{self.address}:{self.settings['distribution']}"
        said = self._run([str(self.release.erl_call), "-address", address, "-e"], expression + ".\n")
        if not said.startswith("{ok, "):
            raise ServerError(f"{expression} failed in the node: {said}")
        return said.removeprefix("{ok, ").removesuffix("}")

    def _run(self, command: list[str], text: str = "") -> str:
        done = subprocess.run(
            [*self.prefix, *command],
            env=self._environment(),
            cwd=self.directory,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=CTL_SECONDS,
        )
        if done.returncode != 0:
            program, *arguments = command
            said = f"{done.stdout}{done.stderr}"
            raise ServerError(f"{Path(program).name} {' '.join(arguments)} failed:\n{said}")
        return done.stdout

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API, e.g. api("PUT", "/vhosts/test"); ServerError unless it answers 2xx."""
        answer = self._request(method, path, body)
        if not answer.ok:
            raise ServerError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def add_vhost(self, name: str) -> None:
        """Make a virtual host; the administrator may do everything in it."""
        self.api("PUT", f"/vhosts/{quote(name, safe='')}", {})
        self.grant(name, ADMIN)

    def delete_vhost(self, name: str) -> None:
        self.api("DELETE", f"/vhosts/{quote(name, safe='')}")

    def add_user(self, name: str, password: str, *vhosts: str, tags: str = "") -> None:
        """Make a user, or give it a new password, with all rights in `vhosts`."""
        self.api("PUT", f"/users/{quote(name, safe='')}", {"password": password, "tags": tags})
        for vhost in vhosts:
            self.grant(vhost, name)

    def grant(self, vhost: str, user: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Set a user's rights in a virtual host: regular expressions of names."""
        rights = {"configure": configure, "write": write, "read": read}
        self.api("PUT", f"/permissions/{quote(vhost, safe='')}/{quote(user, safe='')}", rights)

    def queue_depth(self, vhost: str, queue: str) -> int:
        """Messages ready in a queue, now; those delivered and not yet acknowledged are not among them."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url(vhost)))
        try:
            return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
        finally:
            connection.close()

    def sync(self) -> None:
        """Write down which quorum queues and bindings exist: to be called between declaring them and `kill`.

        RabbitMQ keeps a new quorum queue's registration in memory for up to some seconds. Killed before (3.10 and 4.0),
        it starts again with that queue empty and without a leader: gets and publishes then hang. Messages of a queue
        that is registered are not concerned. A new binding may be forgotten as well (3.10: one of forty).
        """
        self.evaluate("[dets:sync(Table) || Table <- dets:all()], mnesia:sync_log()")

    def close_connections(self, reason: str = "closed by a test", *, user: str = "") -> None:
        """Close a user's connections, or all; returns when each is closed: a client that does not answer holds it up.

        One that ends by itself meanwhile is none to close: RabbitMQ's own close_connections() fails at it, half done.
        """
        one = f'catch rabbit_networking:close_connection(Connection, "{reason}")'
        whose = f', (catch rabbit_networking:connection_info(Connection, [user])) =:= [{{user, <<"{user}">>}}]'
        self.evaluate(f"[{one} || Connection <- rabbit_networking:connections(){whose if user else ''}]")

    def set_max_message_size(self, size: int) -> None:
        """Refuse larger messages, in bytes: 3.10 asks the application's environment, 4.0 a persistent term."""
        put = "application:set_env(rabbit, max_message_size, {0}), persistent_term:put(max_message_size, {0})"
        self.evaluate(put.format(size))

    def running(self) -> set[str]:
        """The nodes of its cluster that it sees at work; none while it does not work itself."""
        try:
            return set(re.findall(r"[\w-]+@[\w.-]+", self.evaluate("rabbit_nodes:all_running()")))
        except ServerError:
            return set()

    def refuse(self, *nodes: str) -> None:
        """Let no new link come up to other nodes of its cluster."""
        # A cookie of our own for it: with the same one on both sides they would agree again.
        for node in nodes:
            self.evaluate(f"erlang:set_cookie('{node}', node())")

    def part_from(self, *nodes: str) -> None:
        """Break the links to other nodes of its cluster, all at once, and let none come up."""
        self.refuse(*nodes)
        self.evaluate(", ".join(f"erlang:disconnect_node('{node}')" for node in nodes))

    def join(self, node: str, cookie: str) -> None:
        """Undo `refuse` and `part_from`."""
        self.evaluate(f"erlang:set_cookie('{node}', list_to_atom(\"{cookie}\")), net_adm:ping('{node}')")

    def mend(self) -> None:
        """Have it run without an alarm, with the limits that it started with, and without its former virtual hosts."""
        self.resume()
        self.start()
        self.set_max_message_size(MAX_MESSAGE_SIZE)
        self.set_memory_alarm(on=False)
        self.set_disk_alarm(on=False)
        for vhost in self.api("GET", "/vhosts"):
            if vhost["name"] != "/":
                self.delete_vhost(vhost["name"])

    def set_memory_alarm(self, on: bool = True) -> None:
        """Raise or clear the memory alarm, which blocks publishers; returns when it is in force."""
        self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({'0.000001' if on else MEMORY_WATERMARK})")
        self._await_alarm(on)

    def set_disk_alarm(self, on: bool = True) -> None:
        """Raise or clear the disk alarm, which blocks publishers; returns when it is in force."""
        self.evaluate(f"rabbit_disk_monitor:set_disk_free_limit({'1000000000000000' if on else DISK_FREE_LIMIT})")
        self._await_alarm(on)

    def _await_alarm(self, on: bool) -> None:
        def settled() -> bool:
            return self._request("GET", "/health/checks/alarms").ok is not on

        wait_until(settled, API_SECONDS, f"the alarm to be {'raised' if on else 'cleared'}")
