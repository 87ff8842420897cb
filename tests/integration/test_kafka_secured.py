"""Kafka with TLS and logins: the whole line runs over it, and what is wrong with the settings is one line that names them.

No word of a password is in anything that is printed, logged or shown.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import yaml

from shared.settings import load
from tests.line import FLUSH, SERVICES, Line, source
from tests.processes import clean_environ
from tests.secured_kafka import PASSWORDS, SecuredKafka, secured_kafka

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("secured kafka")]

PASSWORD = "CRYPTOFLOW_KAFKA__SASL_PASSWORD"
WRONG = "not-the-Password-2342"
SECRETS = (*PASSWORDS.values(), WRONG)
OPEN = {"sasl_mechanism": None, "sasl_username": None}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("ca")) as server:
        yield server


@pytest.fixture
def another_ca(tmp_path: Path) -> str:
    path = tmp_path / "another.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return str(path)


def says_no_secret(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text], text


@pytest.mark.parametrize("mechanism", PASSWORDS)
async def test_the_line_records_over_tls_with_a_login(secured, services, make_config, tmp_path, mechanism):
    simulator = services.simulate("--seed", "1", "--symbols-per-market", "2")
    config = make_config(
        kafka=secured.settings(mechanism),
        source=source(simulator.url, {"future": ["BTCUSDT"]}),
        writer=FLUSH,
    )
    path = tmp_path / "line.yml"
    path.write_text(yaml.safe_dump(config))
    environ = {PASSWORD: PASSWORDS[mechanism]}
    line = Line(load(path, environ=environ, dotenv_path=tmp_path / "no.env"), config, environ, services)
    says_no_secret(repr(line.settings))

    created = cryptoflow(["topics", "create", "--config", str(path)], tmp_path, environ)
    assert created.returncode == 0, created.stderr
    assert created.stdout.count(": created") == 5
    running = [line.start(service) for service in SERVICES]
    await line.holds(5)
    assert running[0].terminate() == 0
    await line.caught_up()
    assert [process.terminate() for process in running[1:]] == [0, 0]
    assert line.verify().verdict == "complete"
    assert (await line.assert_exactly_once())["snapshot"] >= 4

    shown = cryptoflow(["check-config", "--config", str(path)], tmp_path, environ)
    assert "sasl_password" in shown.stdout
    for text in (created.stdout, created.stderr, shown.stdout, shown.stderr, *logs(services)):
        says_no_secret(text)


FAULTS: dict[str, tuple[Callable[[SecuredKafka], dict[str, Any]], str]] = {
    "wrong password, SCRAM": (
        lambda kafka: kafka.settings(),
        (
            "kafka {secured}: [Error 58] SaslAuthenticationFailed: Authentication failed during authentication due to "
            "invalid credentials with SASL mechanism SCRAM-SHA-512; see kafka.sasl_username and kafka.sasl_password"
        ),
    ),
    "wrong password, PLAIN": (
        lambda kafka: kafka.settings("PLAIN"),
        (
            "kafka {secured}: [Error 58] SaslAuthenticationFailed: Authentication failed: Invalid username or password; "
            "see kafka.sasl_username and kafka.sasl_password"
        ),
    ),
    "a mechanism that is not offered": (
        lambda kafka: kafka.settings("SCRAM-SHA-256"),
        "kafka {secured}: it does not offer kafka.sasl_mechanism SCRAM-SHA-256",
    ),
    "the system's CAs": (
        lambda kafka: kafka.settings(ssl_cafile=None),
        "kafka {secured}: its certificate is refused: unable to get local issuer certificate; see kafka.ssl_cafile",
    ),
    "an address that the certificate does not name": (
        lambda kafka: kafka.settings(bootstrap_servers=f"127.0.0.1:{kafka.ports.secured}"),
        (
            "kafka 127.0.0.1:{ports.secured}: its certificate is refused: IP address mismatch, certificate is not valid for "
            "'127.0.0.1'; kafka.bootstrap_servers and advertised listeners must name it as that does"
        ),
    ),
    "a login without TLS": (
        lambda kafka: kafka.settings("PLAIN", security_protocol="SASL_PLAINTEXT", ssl_cafile=None),
        "kafka {secured}: it speaks TLS, and kafka.security_protocol is SASL_PLAINTEXT",
    ),
    "neither TLS nor a login": (
        lambda kafka: kafka.settings(**OPEN, security_protocol="PLAINTEXT", ssl_cafile=None),
        "kafka {secured}: it speaks TLS, and kafka.security_protocol is PLAINTEXT",
    ),
    "no login": (
        lambda kafka: kafka.settings(**OPEN, security_protocol="SSL"),
        "kafka {secured}: it wants a login, and kafka.security_protocol is SSL",
    ),
    "TLS to the open listener": (
        lambda kafka: kafka.settings(bootstrap_servers=f"localhost:{kafka.ports.open}"),
        "kafka localhost:{ports.open}: it does not speak TLS, and kafka.security_protocol is SASL_SSL",
    ),
    "a login at the open listener": (
        lambda kafka: kafka.settings(
            bootstrap_servers=f"localhost:{kafka.ports.open}", security_protocol="SASL_PLAINTEXT", ssl_cafile=None
        ),
        "kafka localhost:{ports.open}: it takes no login, and kafka.security_protocol is SASL_PLAINTEXT",
    ),
}


@pytest.mark.parametrize(("section", "line"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_setting_ends_a_command_with_one_line_that_names_it(secured, make_config, tmp_path, section, line):
    kafka = section(secured)
    done = cryptoflow(["topics", "create"], tmp_path, secret_of(kafka, WRONG), make_config(kafka=kafka))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == told(line, secured) + "\n"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("fault", ["wrong password, SCRAM", "the system's CAs", "neither TLS nor a login"])
def test_a_wrong_setting_ends_a_service_with_one_line_that_names_it(secured, services, make_config, service, fault):
    section, line = FAULTS[fault]
    kafka = section(secured)
    process = services.start(service, make_config(kafka=kafka), environ=secret_of(kafka, WRONG), ready=False)
    assert process.wait() == 1
    failures = process.logged("service failed")
    assert [failure["reason"] for failure in failures] == [told(line, secured)]
    log = process.log_path.read_text()
    assert "Traceback" not in log
    says_no_secret(log + process.out_path.read_text())


def test_a_certificate_of_another_ca_is_refused(secured, make_config, tmp_path, another_ca):
    kafka = secured.settings(ssl_cafile=another_ca)
    done = cryptoflow(["topics", "check"], tmp_path, secret_of(kafka, WRONG), make_config(kafka=kafka))
    assert done.returncode == 1
    assert "its certificate is refused" in done.stderr
    assert done.stderr.endswith("; see kafka.ssl_cafile\n")


def test_a_cluster_that_names_itself_otherwise_than_its_certificate_is_told_apart(secured, make_config, tmp_path):
    """Bootstrap succeeds, and leads to an address that the certificate does not vouch for."""
    kafka = secured.settings(bootstrap_servers=f"localhost:{secured.ports.astray}")
    environ = secret_of(kafka, PASSWORDS["SCRAM-SHA-512"])
    done = cryptoflow(["topics", "create"], tmp_path, environ, make_config(kafka=kafka))
    assert done.returncode == 1
    assert done.stderr == told(
        "kafka 127.0.0.1:{ports.astray}: its certificate is refused: IP address mismatch, certificate is not valid for "
        "'127.0.0.1'; kafka.bootstrap_servers and advertised listeners must name it as that does\n",
        secured,
    )


def cryptoflow(
    arguments: list[str], folder: Path, environ: dict[str, str], config: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, in a folder of its own, with `config` as its configuration."""
    if config is not None:
        path = folder / "cryptoflow.yml"
        path.write_text(yaml.safe_dump(config))
        arguments = [*arguments, "--config", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "cryptoflow.cli", *arguments],
        cwd=folder, env=clean_environ(environ), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    says_no_secret(done.stdout + done.stderr)
    return done


def secret_of(kafka: dict[str, Any], password: str) -> dict[str, str]:
    return {PASSWORD: password} if kafka["sasl_mechanism"] else {}


def told(line: str, kafka: SecuredKafka) -> str:
    return line.format(secured=kafka.bootstrap_servers, ports=kafka.ports)


def logs(services: Any) -> list[str]:
    return [path.read_text() for process in services.all for path in (process.log_path, process.out_path)]
