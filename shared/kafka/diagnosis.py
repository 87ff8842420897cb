"""Why no broker can be reached, in words that name the setting: bootstrap itself only says that none could be.

Each bootstrap server is tried as the client would, then asked what it does speak: TLS or none, logins or none. What a
setting has to mend is a `FatalError`, as no waiting helps; anything else may pass. Credentials are only ever sent to
where the settings send them.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import IllegalSaslStateError, KafkaError, UnsupportedSaslMechanismError
from aiokafka.protocol.admin import SaslHandShakeRequest

from shared.errors import FatalError
from shared.kafka.errors import REFUSED_LOGIN, in_words

TLS_PROTOCOLS = frozenset({"SSL", "SASL_SSL"})
LOGIN_PROTOCOLS = frozenset({"SASL_PLAINTEXT", "SASL_SSL"})
FAILURES = (KafkaError, OSError, TimeoutError)
_OTHER_NAME = frozenset({62, 64})  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


async def diagnose(options: dict[str, Any]) -> Exception | None:
    """The latest failure of all bootstrap servers, None if none fails now. `options` are those of the client.

    Raises `FatalError` where a setting is wrong.
    """
    found: Exception | None = None
    for host, port, _ in collect_hosts(options["bootstrap_servers"]):
        try:
            await _try(options, host, port)
        except FAILURES as error:
            if wrong := await _wrong_setting(error, options, host, port):
                raise FatalError(f"kafka {host}:{port}: {wrong}") from error
            found = error
    return found


async def _try(options: dict[str, Any], host: str, port: int) -> None:
    chosen = {key: value for key, value in options.items() if key != "bootstrap_servers"}
    connection = await create_conn(host, port, **chosen)
    try:
        if options["security_protocol"] not in LOGIN_PROTOCOLS and await _wants_login(connection):
            raise FatalError(
                f"kafka {host}:{port}: it wants a login, and kafka.security_protocol is {options['security_protocol']}"
            )
    finally:
        connection.close()


async def _wrong_setting(error: Exception, options: dict[str, Any], host: str, port: int) -> str | None:
    protocol = f"kafka.security_protocol is {options['security_protocol']}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _wrong_certificate(error)
    if isinstance(error, REFUSED_LOGIN):
        return _wrong_login(error, options["sasl_mechanism"], protocol)
    if isinstance(error, TimeoutError):
        return None
    if options["security_protocol"] in TLS_PROTOCOLS:
        return f"it does not speak TLS, and {protocol}" if await _speaks_plainly(options, host, port) else None
    return f"it speaks TLS, and {protocol}" if await _speaks_tls(options, host, port) else None


def _wrong_certificate(error: ssl.SSLCertVerificationError) -> str:
    refused = f"its certificate is refused: {error.verify_message.rstrip('.')}"
    if error.verify_code in _OTHER_NAME:
        return f"{refused}; kafka.bootstrap_servers and advertised listeners must name it as that does"
    return f"{refused}; see kafka.ssl_cafile"


def _wrong_login(error: Exception, mechanism: str, protocol: str) -> str:
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"it does not offer kafka.sasl_mechanism {mechanism}"
    if isinstance(error, IllegalSaslStateError):
        return f"it takes no login, and {protocol}"
    return f"{in_words(error)}; see kafka.sasl_username and kafka.sasl_password"


async def _wants_login(connection: AIOKafkaConnection) -> bool:
    """A listener without logins answers that this is not the time; any other answer is one of a listener with them."""
    response = await connection.send(SaslHandShakeRequest("PLAIN"))
    return bool(response.error_code != IllegalSaslStateError.errno)


async def _speaks_plainly(options: dict[str, Any], host: str, port: int) -> bool:
    kept = {key: options[key] for key in ("client_id", "request_timeout_ms")}
    try:
        connection = await create_conn(host, port, **kept, security_protocol="PLAINTEXT")
    except FAILURES:
        return False
    connection.close()
    return True


async def _speaks_tls(options: dict[str, Any], host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a handshake and nothing else: nothing is sent
    try:
        async with asyncio.timeout(options["request_timeout_ms"] / 1000):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
