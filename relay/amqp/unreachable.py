"""What it means that RabbitMQ can't be reached, or lets us not in: the error that a person reads."""

import re
import shlex
import ssl
from collections.abc import Iterator

import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout

from relay.amqp import rights
from relay.amqp.replies import ACCESS_REFUSED, NOT_ALLOWED, way_out
from relay.config import Common
from relay.errors import ConfigError, RelayError, Unavailable, one_line


def of_rabbitmq(config: Common, error: BaseException) -> RelayError:
    """Sort what pika raises at connecting. Of a refusal, the remedy has the real names."""
    where = f"RabbitMQ {config.rabbitmq_url.shown()}"
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            problem = f"{where}: certificate not accepted: {cause.verify_message}"
            return ConfigError((problem, "set RABBITMQ_CA_FILE; the host name must be in the certificate"))
        if refusal := _tls_refusal(str(cause)):
            return ConfigError((f"{where}{refusal[0]}", refusal[1]))
        code = _refusal(cause)
        if isinstance(cause, pika.exceptions.AuthenticationError) or (
            isinstance(cause, pika.exceptions.ProbableAuthenticationError) and code == ACCESS_REFUSED
        ):
            return ConfigError((f"{where} refuses the user or password", "correct RABBITMQ_URL"))
        if code in (ACCESS_REFUSED, NOT_ALLOWED):
            if remedy := way_out(detail := one_line(cause)):  # it may be another program that takes the place
                return Unavailable(f"{where} refuses: {detail}", remedy)
            remedy = f"rabbitmqctl add_vhost {shlex.quote(config.rabbitmq_url.vhost)}; {rights.command(config)}"
            return ConfigError((f"{where}: the vhost does not exist, or the user has no right to it", remedy))
    detail, remedy = one_line(causes[-1]), "is it running, and RABBITMQ_URL right?"
    if any(isinstance(cause, TimeoutError | AMQPConnectorStackTimeout) for cause in causes):
        detail = f"no answer within {config.connect_timeout:g} s"
    if is_hung_up(error):
        certificate = "a certificate that it trusts in RABBITMQ_CERT_FILE"
        remedy += f" (it may want {certificate if config.rabbitmq_url.tls else 'amqps:// at this port'})"
    return Unavailable(f"{where} is not reachable: {detail}", remedy)


def _refusal(cause: BaseException) -> int:
    """The broker's reply code; 0 = it has said nothing.

    Of a connection that ends in the handshake pika guesses why by how far it came, and keeps what was said as text. The
    guess is not believed: a broker that is shut down, or a network, may end it as well.
    """
    if isinstance(cause, pika.exceptions.ConnectionClosedByBroker):
        return int(cause.reply_code)
    if isinstance(cause, pika.exceptions.ProbableAuthenticationError | pika.exceptions.ProbableAccessDeniedError):
        match = re.match(r"ConnectionClosedByBroker: \((\d+)\)", str(cause.args[0]) if cause.args else "")
        return int(match[1]) if match else 0
    return 0


def is_hung_up(error: BaseException) -> bool:
    """Was the connection ended at our first word?"""
    return any(isinstance(cause, pika.exceptions.IncompatibleProtocolError) for cause in _causes(error))


def _tls_refusal(detail: str) -> tuple[str, str] | None:
    """What a handshake that failed means, by OpenSSL's name of the reason; None = nothing that a person must mend.

    pika may have the reason as text only.
    """
    reason = match[1] if (match := re.search(r"\[SSL: (\w+)\]", detail)) else ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return " speaks no TLS at this port", "write its port for amqps into RABBITMQ_URL, mostly 5671"
    if "ALERT" in reason:
        detail = reason.replace("_", " ").lower()
        remedy = "RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE must be of an authority that it trusts, and not have expired"
        return f" does not accept our certificate: {detail}", remedy
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """pika wraps the cause of a failed connection in its workflow's errors, several deep."""
    yield error
    wrapped = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    inner = [each for each in wrapped if isinstance(each, BaseException)]
    if inner:
        yield from _causes(inner[-1])
