"""Apache Kafka as a firm runs it: TLS under a CA of its own, logins by SCRAM or PLAIN; and, to compare, an open listener.

The certificate names `localhost` and nothing else, so that an address by another name is one it does not vouch for.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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


class SecuredKafka(Kafka):
    """`port` is the TLS listener's, `open_port` that of the one without any security."""

    def __init__(self, container: DockerContainer, port: int, open_port: int, ca_file: Path) -> None:
        super().__init__(container, open_port)
        self.secured_port = port
        self.open_port = open_port
        self.bootstrap_servers = f"localhost:{port}"
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
        command = ["/opt/kafka/bin/kafka-configs.sh", "--bootstrap-server", f"127.0.0.1:{self.open_port}", "--alter"]
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
    port, open_port = free_port(), free_port()
    container = (
        DockerContainer(KAFKA_IMAGE)
        .with_bind_ports(port, port)
        .with_bind_ports(open_port, open_port)
        .with_envs(**_environ(port, open_port, ca.issue_cert("localhost")))
    )
    with running(container):
        server = SecuredKafka(container, port, open_port, ca_file)
        server.wait()
        server.add_scram_user()
        yield server


def _environ(port: int, open_port: int, certificate: trustme.LeafCert) -> dict[str, str]:
    # A listener's name must not end in SSL: the image then wants key files of its own layout.
    return {
        **kafka_environ(open_port),
        "KAFKA_LISTENERS": f"SECURED://0.0.0.0:{port},OPEN://0.0.0.0:{open_port},CONTROLLER://localhost:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"SECURED://localhost:{port},OPEN://127.0.0.1:{open_port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "SECURED:SASL_SSL,OPEN:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "OPEN",
        "KAFKA_SASL_ENABLED_MECHANISMS": ",".join(PASSWORDS),
        "KAFKA_SSL_KEYSTORE_TYPE": "PEM",
        "KAFKA_SSL_KEYSTORE_KEY": _one_line(_pkcs8(certificate)),
        "KAFKA_SSL_KEYSTORE_CERTIFICATE_CHAIN": _one_line(b"".join(pem.bytes() for pem in certificate.cert_chain_pems)),
        "KAFKA_LISTENER_NAME_SECURED_SCRAM___SHA___512_SASL_JAAS_CONFIG": (
            f"{MODULES}.scram.ScramLoginModule required;"
        ),
        "KAFKA_LISTENER_NAME_SECURED_PLAIN_SASL_JAAS_CONFIG": (
            f'{MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORDS["PLAIN"]}";'
        ),
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
