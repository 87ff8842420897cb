"""How the Kafka settings become a connection: credentials, certificates, errors in words. No broker needed."""

import asyncio
import ssl
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from prometheus_client import REGISTRY
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.errors import FatalError, RetryableError
from shared.kafka import Admin, OffsetsLost, Producer, TopicPartition
from shared.kafka.connection import client_options, close_hard
from shared.kafka.errors import from_kafka
from shared.settings import KafkaSettings
from tests.support import eventually, free_port


def options(**values):
    return client_options(KafkaSettings(**values), "reader")


def test_without_security_there_are_no_credentials():
    made = options(bootstrap_servers="a:1,b:2", request_timeout_ms=5000)
    assert made == {
        "bootstrap_servers": "a:1,b:2",
        "client_id": "reader",
        "request_timeout_ms": 5000,
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_certificates_and_host_names_are_always_verified(protocol):
    context = options(
        security_protocol=protocol, sasl_mechanism="PLAIN", sasl_username="u", sasl_password=SecretStr("p")
    )["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_credentials_reach_the_client(mechanism):
    made = options(
        security_protocol="SASL_PLAINTEXT", sasl_mechanism=mechanism, sasl_username="u", sasl_password=SecretStr("p")
    )
    assert (made["sasl_mechanism"], made["sasl_plain_username"], made["sasl_plain_password"]) == (mechanism, "u", "p")
    assert "ssl_context" not in made


@pytest.mark.parametrize("content", [None, "not a certificate"], ids=["missing", "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FatalError, match=r"kafka\.ssl_cafile .*ca\.pem"):
        options(security_protocol="SSL", ssl_cafile=path)


async def test_where_nothing_listens_the_client_waits_and_says_so_once():
    port = free_port()
    client = Producer(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}"), client_id="reader")
    with capture_logs() as logs:
        starting = asyncio.create_task(client.start())
        await eventually(lambda: logs)
        await asyncio.wait([starting], timeout=1)
        assert REGISTRY.get_sample_value("cryptoflow_kafka_unavailable") == 1
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert REGISTRY.get_sample_value("cryptoflow_kafka_unavailable") == 0, "who has given up knows nothing of Kafka"
    [line] = logs
    assert (line["event"], line["log_level"], line["client_id"]) == ("kafka unavailable", "warning", "reader")
    assert str(port) in line["reason"]


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.KafkaConnectionError("refused"),
        kafka_errors.RequestTimedOutError(),
        kafka_errors.NotLeaderForPartitionError(),
        kafka_errors.NotCoordinatorForGroupError(),
        kafka_errors.NotEnoughReplicasError(),
        kafka_errors.CorruptRecordException(),
        ConnectionResetError("reset"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_is_retryable(error):
    converted = from_kafka(error, "commit")
    assert isinstance(converted, RetryableError)
    assert str(converted).startswith("commit: ")
    assert len(str(converted)) > len("commit: ")


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.TopicAuthorizationFailedError("raw-fobs"),
        kafka_errors.GroupAuthorizationFailedError("g"),
        kafka_errors.InvalidReplicationFactorError(),
        kafka_errors.UnsupportedVersionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_pass_is_fatal(error):
    assert isinstance(from_kafka(error, "fetch"), FatalError)


def test_lost_offsets_say_which():
    lost = OffsetsLost(TopicPartition("raw-fobs", 3), 10, 40)
    assert str(lost) == "raw-fobs/3: offsets 10 to 39 are gone, the log begins at 40"


async def test_a_cluster_that_names_no_broker_yet_may_be_asked_again():
    """So one answers after an outage, until its broker has registered anew."""
    admin = Admin(KafkaSettings(bootstrap_servers="a:1"), client_id="judge")
    admin._client = SimpleNamespace(_client=SimpleNamespace(cluster=SimpleNamespace(brokers=set)))
    told = await admin._told(kafka_errors.NodeNotReadyError("no node"), "describe topics")
    assert isinstance(told, RetryableError)


async def test_who_is_cancelled_while_a_client_closes_is_cancelled():
    client = AIOKafkaClient()
    client._sync_task = asyncio.create_task(asyncio.Event().wait())  # it looks after metadata, and ends with the client
    closing = asyncio.create_task(close_hard(client))
    await asyncio.sleep(0)  # it waits for that task's end
    assert closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert client._sync_task is None


async def test_who_closes_a_client_because_of_a_cancellation_may_do_so_to_the_end():
    client, closed = AIOKafkaClient(), asyncio.Event()

    async def hold():
        client._sync_task = asyncio.create_task(asyncio.Event().wait())
        try:
            await asyncio.Event().wait()
        finally:
            await close_hard(client)
            closed.set()

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert closed.is_set()
