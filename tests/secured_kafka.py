"""Apache Kafka as a firm runs it: TLS under a CA of its own, logins by SCRAM or PLAIN; and, to compare, an open listener.

The certificate names `localhost` and nothing else, so that an address by another name is one it does not vouch for.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import trustme
from cryptography.hazmat.primitives import serialization
from testcontainers.core.container import DockerContainer

from tests.containers import KAFKA_IMAGE, Kafka, kafka_environ, require_engine, running
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORDS = {"SCRAM-SHA-512": "scrammed-Eggs-4711", "PLAIN": "plain-Bread-0815"}
USER = "cryptoflow"
MODULES = "org.apache.kafka.common.security"


class Ports(NamedTuple):
    """Those of the listeners."""

    secured: int
    astray: int
    open: int


class SecuredKafka(Kafka):
    """Three listeners: with TLS and logins; the same, but astray: it names itself by an address; and an open one."""

    def __init__(self, container: DockerContainer, ports: Ports, ca_file: Path) -> None:
        super().__init__(container, ports.open)
        self.ports = ports
        self.bootstrap_servers = f"localhost:{ports.secured}"
        self.ca_file = ca_file

    def settings(self, mechanism: str = "SCRAM-SHA-512", **changes: Any) -> dict[str, Any]:
        """The `kafka` section for it; the password comes from the environment."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_username": USER,
            "ssl_cafile": str(self.ca_file),
            **changes,
        }

    def add_scram_user(self) -> None:
        """A SCRAM user lives in the cluster, so the cluster has to be asked."""
        command = ["/opt/kafka/bin/kafka-configs.sh", "--bootstrap-server", f"127.0.0.1:{self.ports.open}", "--alter"]
        secret = f"SCRAM-SHA-512=[password={PASSWORDS['SCRAM-SHA-512']}]"
        code, output = self._container.exec_run(
            [*command, "--entity-type", "users", "--entity-name", USER, "--add-config", secret]
        )
        assert code == 0, output.decode(errors="replace")


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """A broker, its CA in `folder`. Skips where there is no Docker."""
    require_engine()
    ca = trustme.CA()
    ca_file = folder / "ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    ports = Ports(free_port(), free_port(), free_port())
    container = DockerContainer(KAFKA_IMAGE).with_envs(**_environ(ports, ca.issue_cert("localhost")))
    for port in ports:
        container.with_bind_ports(port, port)
    with running(container):
        server = SecuredKafka(container, ports, ca_file)
        server.wait()
        server.add_scram_user()
        yield server


def _environ(ports: Ports, certificate: trustme.LeafCert) -> dict[str, str]:
    # A listener's name must not end in SSL: the image then wants key files of its own layout.
    return {
        **kafka_environ(ports.open),
        "KAFKA_LISTENERS": (
            f"SECURED://0.0.0.0:{ports.secured},ASTRAY://0.0.0.0:{ports.astray},OPEN://0.0.0.0:{ports.open},"
            "CONTROLLER://localhost:29093"
        ),
        "KAFKA_ADVERTISED_LISTENERS": (
            f"SECURED://localhost:{ports.secured},ASTRAY://127.0.0.1:{ports.astray},OPEN://127.0.0.1:{ports.open}"
        ),
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
            "SECURED:SASL_SSL,ASTRAY:SASL_SSL,OPEN:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "KAFKA_INTER_BROKER_LISTENER_NAME": "OPEN",
        "KAFKA_SASL_ENABLED_MECHANISMS": ",".join(PASSWORDS),
        "KAFKA_SSL_KEYSTORE_TYPE": "PEM",
        "KAFKA_SSL_KEYSTORE_KEY": _one_line(_pkcs8(certificate)),
        "KAFKA_SSL_KEYSTORE_CERTIFICATE_CHAIN": _one_line(b"".join(pem.bytes() for pem in certificate.cert_chain_pems)),
        **_logins("SECURED"),
        **_logins("ASTRAY"),
    }


def _logins(listener: str) -> dict[str, str]:
    login = f'{MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORDS["PLAIN"]}";'
    return {
        f"KAFKA_LISTENER_NAME_{listener}_SCRAM___SHA___512_SASL_JAAS_CONFIG": f"{MODULES}.scram.ScramLoginModule required;",
        f"KAFKA_LISTENER_NAME_{listener}_PLAIN_SASL_JAAS_CONFIG": login,
    }


def _pkcs8(certificate: trustme.LeafCert) -> bytes:
    """The key in the one form that Kafka reads."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _one_line(pem: bytes) -> str:
    r"""As a properties file takes it: the image writes its variables there as they are, and Kafka reads \n as a newline."""
    return pem.decode().replace("\n", "\\n")
