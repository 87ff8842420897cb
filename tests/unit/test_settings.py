"""Where a value comes from, which source wins, and what a key may hold."""

from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.settings import Settings, load, load_with_origins


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_any_source_everything_is_the_default():
    assert load(environ={}) == Settings()


def test_building_settings_in_code_reads_no_source(empty_folder, monkeypatch):
    monkeypatch.setenv("CRYPTOFLOW_KAFKA__STREAM", "elsewhere")
    monkeypatch.setenv("KAFKA", '{"stream": "elsewhere"}')
    (empty_folder / ".env").write_text("CRYPTOFLOW_KAFKA__STREAM=elsewhere\n")
    assert Settings(metrics={"port": 0}).kafka.stream == "main"


def test_each_source_wins_over_those_below_it(empty_folder):
    (empty_folder / "config").mkdir()
    (empty_folder / "config/config.yml").write_text(
        "cryptoflow: {name: yaml, version: yaml, environment: yaml}\nkafka: {stream: yaml, sasl_username: null}\n"
    )
    (empty_folder / ".env").write_text(
        "CRYPTOFLOW_CRYPTOFLOW__VERSION=dotenv\nCRYPTOFLOW_CRYPTOFLOW__ENVIRONMENT=dotenv\nCRYPTOFLOW_KAFKA__STREAM=dotenv\n"
    )
    environ = {"CRYPTOFLOW_CRYPTOFLOW__ENVIRONMENT": "environ", "CRYPTOFLOW_KAFKA__STREAM": "environ"}

    loaded = load_with_origins(overrides={"kafka.stream": "cli"}, environ=environ)

    who = loaded.settings.cryptoflow
    assert (who.name, who.version, who.environment, loaded.settings.kafka.stream) == (
        "yaml",
        "dotenv",
        "environ",
        "cli",
    )
    assert loaded.origins == {
        "cryptoflow.name": "config/config.yml:1",
        "cryptoflow.version": ".env CRYPTOFLOW_CRYPTOFLOW__VERSION",
        "cryptoflow.environment": "environment CRYPTOFLOW_CRYPTOFLOW__ENVIRONMENT",
        "kafka.stream": "--set",
        "kafka.sasl_username": "config/config.yml:2",
    }


def test_a_named_file_is_read_instead_of_the_default_one(empty_folder):
    (empty_folder / "config").mkdir()
    (empty_folder / "config/config.yml").write_text("kafka: {stream: one}\n")
    (empty_folder / "other.yml").write_text("metrics: {port: 1}\n")
    settings = load(Path("other.yml"), environ={})
    assert (settings.kafka.stream, settings.metrics.port) == ("main", 1)


def test_a_section_given_in_part_keeps_the_defaults_of_that_very_section(empty_folder):
    (empty_folder / "c.yml").write_text(
        "channels: {norm_fobs: {partitions: 3}, raw_fobs: {partitions: 3}}\n"
        "source: {binance: {spot: {orderbook: {snapshots: {limit: 5000}}}}}\n"
        "writer:\n"
    )
    settings = load(Path("c.yml"), environ={})
    assert settings.channels.norm_fobs.topic == "norm-fobs"
    assert settings.source.binance.spot.rest_url == "https://api.binance.com"
    assert settings.source.binance.spot.orderbook.snapshots.symbols == ("BTCUSDT", "ETHUSDT")
    assert settings.writer == Settings().writer


def test_yaml_anchors_and_merge_keys_work(empty_folder):
    (empty_folder / "c.yml").write_text(
        "channels:\n"
        "  raw_fobs: &small {partitions: 3, retention_hours: 24}\n"
        "  norm_fobs: {<<: *small, retention_hours: 48}\n"
    )
    settings = load(Path("c.yml"), environ={})
    assert (settings.channels.norm_fobs.partitions, settings.channels.norm_fobs.retention_hours) == (3, 48)


@pytest.mark.parametrize("text", ["BTCUSDT,币安人生USDT", " BTCUSDT , 币安人生USDT ,", '["BTCUSDT", "币安人生USDT"]'])
def test_a_list_in_the_environment_is_comma_separated_or_json(text):
    settings = load(environ={"CRYPTOFLOW_SOURCE__BINANCE__FUTURE__ORDERBOOK__SNAPSHOTS__SYMBOLS": text})
    assert settings.source.binance.future.orderbook.snapshots.symbols == ("BTCUSDT", "币安人生USDT")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("300s", 300), ("5m", 300), ("1h", 3600), ("0.5", 0.5), ("7", 7), ("1.5 h", 5400)],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(text, seconds):
    assert load(environ={}, overrides={"processor.batch_timeout": text}).processor.batch_timeout == seconds


def test_a_duration_in_yaml_may_be_a_number(empty_folder):
    (empty_folder / "c.yml").write_text("writer: {buffer: {snapshot_flush_interval: 60, delta_flush_interval: 1m}}\n")
    buffer = load(Path("c.yml"), environ={}).writer.buffer
    assert (buffer.snapshot_flush_interval, buffer.delta_flush_interval) == (60.0, 60.0)


def test_the_names_other_tools_use_are_read():
    settings = load(
        environ={
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_SESSION_TOKEN": "token",
            "AWS_REGION": "eu-central-1",
            "S3_BUCKET": "books",
            "S3_ENDPOINT_URL": "http://store:8333",
            "SHARD_IP": "10.0.0.1",
        }
    )
    s3 = settings.storage.s3
    assert (s3.bucket, s3.region, s3.endpoint_url) == ("books", "eu-central-1", "http://store:8333")
    assert [secret.get_secret_value() for secret in (s3.access_key_id, s3.secret_access_key, s3.session_token)] == [
        "id",
        "key",
        "token",
    ]
    assert settings.reader.shard_ip == "10.0.0.1"


def test_an_empty_variable_is_one_that_is_not_set():
    assert load(environ={"S3_ENDPOINT_URL": "", "CRYPTOFLOW_KAFKA__STREAM": ""}) == Settings()


@pytest.mark.parametrize("text", ["", "null"])
def test_an_optional_key_can_be_unset_on_the_command_line(empty_folder, text):
    (empty_folder / "c.yml").write_text("reader: {shard_ip: 10.0.0.1}\n")
    assert load(Path("c.yml"), {"reader.shard_ip": text}, environ={}).reader.shard_ip is None


def test_no_secret_shows_in_a_repr_or_dump():
    environ = {
        "AWS_ACCESS_KEY_ID": "hidden-1",
        "AWS_SECRET_ACCESS_KEY": "hidden-2",
        "CRYPTOFLOW_KAFKA__SASL_PASSWORD": "hidden-3",
        "CRYPTOFLOW_KAFKA__SASL_USERNAME": "user",
        "CRYPTOFLOW_KAFKA__SASL_MECHANISM": "PLAIN",
        "CRYPTOFLOW_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    }
    settings = load(environ=environ)
    assert settings.kafka.sasl_password is not None
    assert "hidden" not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()


def test_no_error_shows_a_secret():
    with pytest.raises(ConfigError) as refused:
        load(environ={"CRYPTOFLOW_KAFKA__SASL_PASSWORD": "hidden", "AWS_ACCESS_KEY_ID": "hidden"})
    assert "hidden" not in str(refused.value)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().kafka.stream = "other"


def test_what_is_given_does_not_change_what_is_default():
    load(environ={}, overrides={"channels.raw_fobs.topic": "x", "source.binance.spot.rest_url": "http://x"})
    assert Settings().channels.raw_fobs.topic == "raw-fobs"
    assert Settings().source.binance.spot.rest_url == "https://api.binance.com"


def test_only_enabled_markets_are_listed():
    settings = load(environ={}, overrides={"source.binance.spot.orderbook.snapshots.enabled": "true"})
    assert [(exchange, market) for exchange, market, _ in settings.source.snapshots()] == [
        ("binance", "future"),
        ("binance", "spot"),
    ]
