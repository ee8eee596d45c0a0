"""Who gets MariaDB's password itself, and not a proof that we know it: nobody of whom nothing is known.

The server that answers chooses the way of logging in, and PyMySQL goes any way. Whoever has taken the server's port, or
its place on the network, would only have to ask.
"""

from typing import TYPE_CHECKING, Any

from relay.database_url import PolledUrl

if TYPE_CHECKING:
    from sqlalchemy import Engine

ENCRYPTED = 2061  # a client's own error: this way of logging in must be encrypted
# The last two send the password over TLS, and without it encrypted with a key that the server has shown.
_WANT_IT = ("mysql_clear_password", "dialog", "sha256_password", "caching_sha2_password")


def is_strict(url: PolledUrl) -> bool:
    """Does DATABASE_URL say nothing of TLS? A socket's directory is the server's."""
    return not {"ssl", "ssl_ca", "unix_socket"} & url.options.keys()


def guard(engine: "Engine") -> None:
    """Have PyMySQL refuse the ways of logging in that hand out the password."""
    import pymysql
    from sqlalchemy import event

    class Refusal:
        """Of one way of logging in, as PyMySQL asks for it."""

        def __init__(self, _connection: Any) -> None: ...

        def authenticate(self, _packet: Any) -> None:
            raise pymysql.err.OperationalError(ENCRYPTED, "the server wants the password itself")

    class Guarded(pymysql.connections.Connection):  # type: ignore[misc]
        """One whose first packet holds no password either."""

        def _get_server_information(self) -> None:
            super()._get_server_information()
            self._auth_plugin_name = "mysql_native_password"  # a server that wants another asks again

    refusals = {name.encode(): Refusal for name in _WANT_IT}

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        return Guarded(*arguments, **options, auth_plugin_map=refusals)
