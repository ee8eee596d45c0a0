"""What `receiver.py check` looks at in RabbitMQ: rights, queues, bindings, who is at work, how much waits, and what
would take events away. It changes nothing.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from relay import transport
from relay.amqp import down, look, rights
from relay.amqp.arguments import Definition, Learner, plain
from relay.amqp.ask import ANSWER_SECONDS
from relay.amqp.replies import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED, refusal, version
from relay.amqp.topology import OTHER_EXCHANGE
from relay.checks import Limits
from relay.cli import plural
from relay.config import FAILOVER, Receive
from relay.errors import RelayError, Unavailable
from relay.findings import Finding, Level, Measure, failed, measured, warning
from relay.receiving import commands, harm, management, queues
from relay.receiving.lease import control_name, holder_names, lease_name, parked_name

_ANSWERS = (ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED)
_NO_EXCHANGE = "not there: no event comes; receiver.py and listen.py make it when they run"
_DIRECT = "topic; no name in BINDING_KEYS has a wildcard, so direct would do, at less cost for RabbitMQ"
CTL_SECONDS = 20.0  # for rabbitmqctl, which takes one or two


def rabbitmq(handle: BlockingConnection, config: Receive, ask: management.Ask, limits: Limits) -> Iterator[Finding]:
    """Look at the rights, the exchange, the queues, their arguments, policies and bindings, and who is at work.

    Raises:
        pika.exceptions.AMQPError: an answer that was not foreseen.
    """
    yield Finding("RabbitMQ", detail=config.rabbitmq_url.shown())
    yield look.exchange(handle, config, rights.command(config), OTHER_EXCHANGE, _NO_EXCHANGE)
    if config.exchange_type == "topic" and not config.patterns:
        yield Finding("EXCHANGE_TYPE", detail=_DIRECT)
    yield from _rights(handle, config)
    learnt: dict[str, Definition | None] = {}
    for name in (config.queue, *_parked(config)):
        count = commands.waiting(handle, name)
        if count is not None:
            learnt[name] = _learn(handle, name)
        if name == config.queue or count is not None:
            yield _queue(config, name, count, learnt.get(name))
    queues = harm.ours(config, learnt)
    broker = version(handle._impl.server_properties)  # type: ignore[attr-defined]
    yield from harm.of_arguments(queues, config.rabbitmq_url.vhost, broker)
    try:
        yield from _bindings(ask, config, is_there=config.queue in learnt)
        yield from _policies(list(management.policies(ask, config, queues)), "")
    except RelayError as error:
        yield from _without_api(config, queues, error)
    if full := look.queue_limit(handle, ask, config.rabbitmq_url.vhost, _made(config)):
        yield full
    yield from _work(handle, config, ask, limits)
    plain = "; QUEUE_TYPE=failover does not wait for a node that is down" if config.queue_type != FAILOVER else ""
    yield from down.findings(config, plain)
    if trouble := look.publishing(handle, "", rights.command(config)):
        yield trouble


def _rights(handle: BlockingConnection, config: Receive) -> Iterator[Finding]:
    """What the user of RABBITMQ_URL may not, of what the receiver does."""
    queue, parked = config.queue, _parked(config)
    in_cluster = config.queue_type == FAILOVER
    marks = holder_names(queue, in_cluster=in_cluster)
    read = marks if in_cluster else []
    missing = [look.may_not_configure(handle, name) for name in _made(config, *marks)]
    missing += [look.may_not_read(handle, name) for name in (queue, *parked, *read)]
    missing.append(look.may_not_bind(handle, queue, config.exchange))
    said = "; ".join(dict.fromkeys(filter(None, missing)))
    if said:
        yield failed("rights", said, rights.command(config))
    else:
        yield Finding("rights", detail=f"{config.rabbitmq_url.user} may do what the receiver does")


def _parked(config: Receive) -> list[str]:
    """The waiting room, where there is one."""
    return [] if config.order == "global" else [parked_name(config.queue)]


def _made(config: Receive, *marks: str) -> list[str]:
    """The queues that the receiver makes, where they are not there; of the marks, which it does without, only these."""
    queue = config.queue
    made = [lease_name(queue), *marks, *_parked(config)]
    made += [control_name(queue)] if config.control else []
    made += [] if config.queue_type == "existing" else [queue]
    return made


def _work(handle: BlockingConnection, config: Receive, ask: management.Ask, limits: Limits) -> Iterator[Finding]:
    """Who is at work, how much waits for it, and how much for a person."""
    lease = lease_name(config.queue)
    code, said = refusal(handle, lambda channel: channel.queue_declare(lease, passive=True), *_ANSWERS, RESOURCE_LOCKED)
    held = code == RESOURCE_LOCKED
    ready = commands.waiting(handle, config.queue) or 0
    flow = management.flow(ask, config)
    waits = f"{plural(ready, 'message')} ready in {config.queue}" + (f", {flow}" if flow else "")
    answered = commands.answer(handle, config, {"command": "status"}) if held and config.control else None
    running = commands.at_work(answered)
    if answered == {}:
        remedy = "its log; if it hangs: systemctl restart relay-receiver@NAME on its host"
        yield warning("receiver", f"one is at work, and no answer within {ANSWER_SECONDS:g} s", remedy)
    elif held:
        yield Finding("receiver", detail="one is at work" + (f" {running[0]}" if running else ""))
    elif code in (0, ACCESS_REFUSED):
        yield failed("receiver", said or f"a queue {lease} is in the lease's place", f"delete the queue {lease}")
    else:
        level = Level.WARNING if ready else Level.OK
        remedy = f"systemctl start relay-receiver@NAME, of the NAME.env with QUEUE={config.queue}" if ready else ""
        yield Finding("receiver", level, "none is at work", remedy)
    yield measured("waiting", Measure("waiting", ready, "", *limits.waiting), waits, "is receiver.py at work?")
    if running:
        remedy = "receiver.py parked shows them; then replay or discard"
        measure = Measure("parked", running[1], "", *limits.parked)
        yield measured("parked", measure, f"{plural(running[1], 'key')} refused", remedy)


def _queue(config: Receive, name: str, count: int | None, learnt: Definition | None) -> Finding:
    if count is None:
        makes = config.queue_type != "existing"
        said = "not there yet; receiver.py makes it when it runs" if makes else "not there"
        remedy = "" if makes else "make it, or write QUEUE_TYPE=quorum, and receiver.py makes it"
        return Finding(f"queue {name}", Level.of(ok=makes), detail=said, remedy=remedy)
    wanted = plain(queues.arguments(config, name))
    if config.queue_type != "existing" and learnt is not None:
        differ = sorted(
            key for key in wanted.keys() | learnt.keys() if _typed(wanted).get(key) != _typed(learnt).get(key)
        )
        if differ:
            said = ", ".join(f"{key} is {learnt.get(key)} and not {wanted.get(key)}" for key in differ)
            again = f"rabbitmqctl delete_queue -p {shlex.quote(config.rabbitmq_url.vhost)} {shlex.quote(name)}"
            remedy = "QUEUE_TYPE=existing takes it as it is"
            if queues.unfit(name, learnt):
                remedy = f"empty it, and let receiver.py make it anew: {again}"
            return failed(f"queue {name}", detail=f"it was made with other arguments: {said}", remedy=remedy)
    return Finding(f"queue {name}", detail=f"{count} messages ready")


def _typed(arguments: Definition) -> Definition:
    return {"queue-type": "classic", **arguments}


def _learn(handle: BlockingConnection, name: str) -> Definition | None:
    asked = Learner()

    def declare(channel: BlockingChannel) -> None:
        channel.queue_declare(name, durable=asked.durable, auto_delete=asked.auto_delete, arguments=asked.arguments)

    while not asked.done:
        asked.take(refusal(handle, declare, *_ANSWERS)[1])
    return asked.found


def _bindings(ask: management.Ask, config: Receive, *, is_there: bool) -> Iterator[Finding]:
    found = list(management.bindings(ask, config)) if is_there else []
    yield from found
    if is_there and not found:
        keys = ",".join(config.binding_keys)
        name = config.queue.rpartition(".")[0] if config.lane else config.queue
        yield Finding("bindings", detail=f"{name} is bound to {config.exchange} by {keys}")


def _policies(found: list[Finding], by: str) -> Iterator[Finding]:
    yield from found
    if all(one.ok for one in found):
        yield Finding("policies", detail=f"none that takes events away{by}")


def _without_api(config: Receive, queues: list[harm.Ours], why: RelayError) -> Iterator[Finding]:
    """By rabbitmqctl on the broker's own host; or else tell what to run there."""
    vhost = shlex.quote(config.rabbitmq_url.vhost)
    listed = f"rabbitmqctl list_bindings -p {vhost} source_name destination_name routing_key"
    yield Finding("bindings", detail=f"not looked at: {why}", remedy=f"on RabbitMQ's host: {listed}")
    try:
        if not transport.is_here(config.rabbitmq_url.host):
            raise why
        policies, operators = (_ctl(config.rabbitmq_url.vhost, f"list_{kind}policies") for kind in ("", "operator_"))
    except RelayError as error:
        both = f"rabbitmqctl list_policies -p {vhost}; rabbitmqctl list_operator_policies -p {vhost}"
        yield Finding("policies", detail=f"not looked at: {error}", remedy=f"on RabbitMQ's host: {both}")
        return
    yield from _policies(list(harm.of_policies(policies, operators, queues, config)), " (by rabbitmqctl)")


def _ctl(vhost: str, words: str) -> Any:
    """Raises Unavailable: it is not there, or not for us."""
    program = shutil.which("rabbitmqctl", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        raise Unavailable("the management API does not answer, and there is no rabbitmqctl on this host")
    failed = "fails for this user"
    try:
        with subprocess.Popen(
            [program, "--quiet", words, "-p", vhost, "--formatter", "json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        ) as running:  # fmt: skip
            try:
                shown, _ = running.communicate(timeout=CTL_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)  # it is a shell script: what that has begun holds our pipe
                failed = f"takes longer than {CTL_SECONDS:g} s"
        if running.returncode == 0:
            return json.loads(shown)
    except (OSError, ValueError):
        pass
    raise Unavailable(f"the management API does not answer, and rabbitmqctl {words} {failed}")
