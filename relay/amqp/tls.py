"""How TLS is spoken to RabbitMQ, and to its management API."""

import ssl

from relay.config import Common
from relay.errors import ConfigError, one_line


def context(config: Common) -> ssl.SSLContext:
    """Certificate and host name are always checked; RABBITMQ_CA_FILE replaces the system's authorities."""
    try:
        context = ssl.create_default_context(cafile=config.rabbitmq_ca_file or None)
        if config.rabbitmq_cert_file:
            context.load_cert_chain(config.rabbitmq_cert_file, config.rabbitmq_key_file)
    except (OSError, ssl.SSLError) as error:
        problem = f"RABBITMQ_CA_FILE, _CERT_FILE or _KEY_FILE can't be used: {one_line(error)}"
        raise ConfigError((problem, "PEM files that this user may read; the key without a passphrase")) from None
    return context
