"""Everything a person can get wrong in the configuration: exit code 2, one line per mistake, all of them, no traceback."""

import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from typer.testing import CliRunner

from cryptoflow.cli import app

FUTURE = "source.binance.future.orderbook.snapshots"
DELTA = "source.binance.future.orderbook.delta"
DURATION = 'must be a duration: seconds, or a number with a unit like "200ms", "300s", "5m", "1h"'
SASL = "CRYPTOFLOW_KAFKA__SASL_PASSWORD"


@dataclass
class Broken:
    """What is given, and the lines that must come back."""

    id: str
    lines: list[str]
    yaml: str | bytes | None = None
    environ: dict[str, str] = field(default_factory=dict)
    dotenv: str | bytes | None = None
    set: list[str] = field(default_factory=list)


def in_yaml(id_, text, *lines):
    return Broken(id_, [f"c.yml{line}" for line in lines], yaml=text)


def on_command_line(id_, pair, *lines):
    return Broken(id_, [f"--set: {line}" for line in lines], set=[pair])


def in_environment(id_, environ, *lines):
    return Broken(id_, [f"environment{line}" for line in lines], environ=environ)


CASES = [
    # the file
    in_yaml("yaml-unclosed-bracket", "kafka: {stream: [a\n", ":2:1: file: is not YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"),
    in_yaml("yaml-tab", "kafka:\n\tstream: a\n", ":2:1: file: is not YAML: while scanning for the next token found character '\\t' that cannot start any token"),
    in_yaml("yaml-bad-indent", "kafka:\n  stream: a\n compression: lz4\n", ":3:2: file: is not YAML: while parsing a block mapping expected <block end>, but found '<block mapping start>'"),
    in_yaml("yaml-unknown-anchor", "kafka: *nowhere\n", ":1:8: file: is not YAML: found undefined alias 'nowhere'"),
    in_yaml("yaml-two-documents", "kafka:\n---\nreader:\n", ":2:1: file: is not YAML: expected a single document in the stream but found another document"),
    in_yaml("yaml-python-tag", "kafka: {stream: !!python/object:os.system {}}\n", ":1:17: file: is not YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'"),
    in_yaml("yaml-key-twice", "kafka:\n  stream: a\n  stream: b\n", ":3:3: file: is not YAML: key 'stream' stands twice"),
    in_yaml("yaml-not-utf-8", b"kafka: {stream: \xff}\n", ": file: is not UTF-8: invalid start byte at byte 16"),
    in_yaml("yaml-control-character", b"kafka: {stream: \x00}\n", ': file: is not YAML: unacceptable character #x0000: special characters are not allowed in "c.yml", position 16'),
    in_yaml("yaml-list-at-the-top", "- kafka\n", ":1: file: must be a mapping of sections, such as `kafka:`"),
    in_yaml("yaml-scalar-for-a-section", "kafka: localhost\n", ":1: kafka: must be a section with keys such as kafka.bootstrap_servers"),
    in_yaml("yaml-mapping-for-a-value", "metrics: {port: {a: 1}}\n", ":1: metrics.port: must be a whole number, is {'a': 1}"),
    # keys
    in_yaml("unknown-key", "kafka:\n  compresion: lz4\n", ":2: kafka.compresion: unknown key; did you mean kafka.compression?"),
    in_yaml("unknown-section", "sources: {}\n", ":1: sources: unknown key; did you mean source?"),
    in_yaml("unknown-key-nothing-near", "zzz: 1\n", ":1: zzz: unknown key"),
    in_yaml("key-at-the-wrong-depth", "source: {binance: {future: {symbols: [A]}}}\n", ":1: source.binance.future.symbols: unknown key; did you mean source.binance.future.orderbook.snapshots.symbols or source.binance.future.orderbook.delta.symbols?"),
    in_yaml("key-of-a-section-in-between", "source: {binance: {future: {delta: {anchor_interval: 1h}}}}\n", ":1: source.binance.future.delta: unknown key; did you mean source.binance.future.orderbook.delta?"),
    on_command_line("two-keys-equally-near", "channels.raw_fob.topic=a", "channels.raw_fob.topic: unknown key; did you mean channels.raw_fobs.topic or channels.raw_fobd.topic?"),
    on_command_line("key-without-its-sections", "port=1", "port: unknown key; did you mean metrics.port?"),
    on_command_line("key-without-its-first-section", "future.rest_url=http://x", "future.rest_url: unknown key; did you mean source.binance.future.rest_url?"),
    on_command_line("too-many-keys-to-name", "source.symbols=A", "source.symbols: unknown key; did you mean source.binance.future.orderbook.snapshots.symbols or one of 5 like it?"),
    in_environment("variable-at-the-wrong-depth", {"CRYPTOFLOW_SOURCE__BINANCE__FUTURE__SYMBOLS": "A"}, ": CRYPTOFLOW_SOURCE__BINANCE__FUTURE__SYMBOLS: unknown variable; did you mean CRYPTOFLOW_SOURCE__BINANCE__FUTURE__ORDERBOOK__SNAPSHOTS__SYMBOLS or CRYPTOFLOW_SOURCE__BINANCE__FUTURE__ORDERBOOK__DELTA__SYMBOLS?"),
    in_yaml("unknown-market", "source: {binance: {futures: {rest_url: 'http://x'}}}\n", ":1: source.binance.futures: unknown key; did you mean source.binance.future?"),
    in_environment("unknown-variable", {"CRYPTOFLOW_KAKFA__STREAM": "a"}, ": CRYPTOFLOW_KAKFA__STREAM: unknown variable; did you mean CRYPTOFLOW_KAFKA__STREAM?"),
    in_environment("variable-with-one-underscore", {"CRYPTOFLOW_KAFKA_STREAM": "a"}, ": CRYPTOFLOW_KAFKA_STREAM: unknown variable; did you mean CRYPTOFLOW_KAFKA__STREAM?"),
    on_command_line("unknown-set-key", "kafka.steam=a", "kafka.steam: unknown key; did you mean kafka.stream?"),
    on_command_line("set-without-value", "kafka.stream", "kafka.stream: must be KEY=VALUE"),
    on_command_line("set-of-a-section", "kafka=a", "kafka: is a section; set one of its keys, such as kafka.bootstrap_servers"),
    Broken("unknown-variable-in-dotenv", [".env: CRYPTOFLOW_METRIC__PORT: unknown variable; did you mean CRYPTOFLOW_METRICS__PORT?"], dotenv="CRYPTOFLOW_METRIC__PORT=1\n"),
    Broken("dotenv-line-that-is-none", [".env:2: file: not NAME=value"], dotenv="A=1\n=== what\n"),
    # values
    in_yaml("number-that-is-text", "metrics: {port: none}\n", ":1: metrics.port: must be a whole number, is 'none'"),
    in_yaml("number-that-is-true", "kafka: {session_timeout_ms: true}\n", ":1: kafka.session_timeout_ms: must be a number, is True"),
    in_yaml("number-with-a-fraction", "processor: {batch_size: 1.5}\n", ":1: processor.batch_size: must be a whole number, is 1.5"),
    in_yaml("text-that-is-a-number", "kafka: {stream: 7}\n", ":1: kafka.stream: must be text (in YAML, quote it), is 7"),
    in_yaml("null-where-none-may-be", "kafka: {stream: null}\n", ":1: kafka.stream: must be text (in YAML, quote it), is null"),
    in_yaml("empty-text", "kafka: {bootstrap_servers: ''}\n", ":1: kafka.bootstrap_servers: must not be empty, is ''"),
    in_yaml("not-a-list", "source: {binance: {future: {orderbook: {snapshots: {symbols: BTCUSDT}}}}}\n", f":1: {FUTURE}.symbols: must be a list, is 'BTCUSDT'"),
    in_yaml("list-with-a-number", "source: {binance: {future: {orderbook: {snapshots: {symbols: [A, 1, 2]}}}}}\n", f":1: {FUTURE}.symbols: must be text (in YAML, quote it), is 2"),
    on_command_line("zero-partitions", "channels.dead_letters.partitions=0", "channels.dead_letters.partitions: must be greater than 0, is '0'"),
    on_command_line("port-too-high", "metrics.port=65536", "metrics.port: must be at most 65535, is '65536'"),
    on_command_line("share-above-one", "reader.weight_share=1.2", "reader.weight_share: must be at most 1, is '1.2'"),
    on_command_line("interval-too-short", f"{FUTURE}.interval_ms=10", f"{FUTURE}.interval_ms: must be at least 100, is '10'"),
    on_command_line("not-a-number", "reader.request_timeout_seconds=nan", "reader.request_timeout_seconds: must be a finite number, is 'nan'"),
    on_command_line("infinite", "writer.buffer.snapshot_flush_interval=inf", "writer.buffer.snapshot_flush_interval: must be a duration: seconds, or a number with a unit like \"200ms\", \"300s\", \"5m\", \"1h\", is 'inf'"),
    on_command_line("infinite-number", "reader.gap_after_seconds=inf", "reader.gap_after_seconds: must be a finite number, is 'inf'"),
    on_command_line("unknown-choice", "kafka.compression=lz5", "kafka.compression: must be one of lz4, zstd, none, is 'lz5'; did you mean lz4?"),
    on_command_line("choice-in-lower-case", "logging.level=debug", "logging.level: must be one of DEBUG, INFO, WARNING, ERROR, is 'debug'; did you mean DEBUG?"),
    on_command_line("not-a-duration", "processor.batch_timeout=5 days", "processor.batch_timeout: must be a duration: seconds, or a number with a unit like \"200ms\", \"300s\", \"5m\", \"1h\", is '5 days'"),
    on_command_line("negative-duration", "processor.batch_timeout=0", "processor.batch_timeout: must be greater than 0, is 0.0"),
    on_command_line("not-a-boolean", "storage.s3.enabled=maybe", "storage.s3.enabled: must be true or false, is 'maybe'"),
    on_command_line("stream-pattern", "kafka.stream=Main-1", "kafka.stream: must be lower-case letters, digits and '_', is 'Main-1'"),
    on_command_line("topic-name", "channels.raw_fobs.topic=raw fobs", "channels.raw_fobs.topic: must be 1 to 249 characters out of letters, digits, '.', '_' and '-', is 'raw fobs'"),
    on_command_line("url-without-scheme", "source.binance.future.rest_url=fapi.binance.com", "source.binance.future.rest_url: must be a URL such as https://host:port, is 'fapi.binance.com'"),
    on_command_line("stream-url-over-http", "source.binance.future.stream_url=https://fstream.binance.com", "source.binance.future.stream_url: must be a URL such as wss://host:port, is 'https://fstream.binance.com'"),
    on_command_line("stream-url-with-a-query", "source.binance.future.stream_url=wss://x/stream?streams=a", "source.binance.future.stream_url: must be a URL such as wss://host:port, is 'wss://x/stream?streams=a'"),
    on_command_line("delta-interval-that-is-text", f"{DELTA}.interval_ms=100ms", f"{DELTA}.interval_ms: must be a whole number, is '100ms'"),
    on_command_line("delta-interval-below-0", f"{DELTA}.interval_ms=-1", f"{DELTA}.interval_ms: must be at least 0, is '-1'"),
    in_yaml("delta-enabled-is-no-boolean", "source: {binance: {future: {orderbook: {delta: {enabled: often}}}}}\n", f":1: {DELTA}.enabled: must be true or false, is 'often'"),
    on_command_line("anchors-all-the-time", f"{DELTA}.anchor_interval=0", f"{DELTA}.anchor_interval: must be greater than 0, is 0.0"),
    on_command_line("anchors-never", f"{DELTA}.anchor_interval=null", f"{DELTA}.anchor_interval: {DURATION}, is 'null'"),
    on_command_line("anchors-of-no-levels", f"{DELTA}.limit=0", f"{DELTA}.limit: must be greater than 0, is '0'"),
    on_command_line("delta-symbol-twice", f"{DELTA}.symbols=*USDT,*USDT", f"{DELTA}.symbols: must not name anything twice: *USDT, is ['*USDT', '*USDT']"),
    on_command_line("no-streams", "reader.streams_per_connection=0", "reader.streams_per_connection: must be greater than 0, is '0'"),
    on_command_line("silence-in-days", "reader.silence_timeout=1d", f"reader.silence_timeout: {DURATION}, is '1d'"),
    on_command_line("stale-at-once", "reader.stale_after=0", "reader.stale_after: must be greater than 0, is 0.0"),
    in_yaml("age-that-is-true", "reader: {max_connection_age: true}\n", f":1: reader.max_connection_age: {DURATION}, is True"),
    in_yaml("list-for-an-interval", "reader: {instruments_interval: [5m]}\n", f":1: reader.instruments_interval: {DURATION}, is ['5m']"),
    on_command_line("prefix-with-a-slash", "storage.s3.prefix=/lake/", "storage.s3.prefix: must be a folder such as lake or data/lake, without a slash at either end, is '/lake/'"),
    on_command_line("symbol-twice", f"{FUTURE}.symbols=A,B,A", f"{FUTURE}.symbols: must not name anything twice: A, is ['A', 'B', 'A']"),
    on_command_line("list-that-is-no-json", f"{FUTURE}.symbols=[A", f"{FUTURE}.symbols: is not JSON: Expecting value at character 2"),
    # secrets
    in_yaml("secret-in-yaml", "kafka:\n  sasl_password: hunter2\n", f":2: kafka.sasl_password: is a secret and this file is read by many; set {SASL} in the environment or in .env"),
    in_yaml("aws-key-in-yaml", "storage: {s3: {secret_access_key: x}}\n", ":1: storage.s3.secret_access_key: is a secret and this file is read by many; set AWS_SECRET_ACCESS_KEY in the environment or in .env"),
    on_command_line("secret-on-the-command-line", "kafka.sasl_password=x", f"kafka.sasl_password: is a secret and every process list shows it here; set {SASL} in the environment or in .env"),
    # contradictions
    in_yaml("partitions-differ", "channels:\n  raw_fobs: {partitions: 3}\n", ":2: channels.norm_fobs.partitions: must be equal for raw and norm, raw has 3 and norm 6"),
    on_command_line("delta-partitions-differ", "channels.norm_fobd.partitions=7", "channels.norm_fobd.partitions: must be equal for raw and norm, raw has 6 and norm 7"),
    on_command_line("one-topic-for-two-channels", "channels.norm_fobs.topic=raw-fobs", "channels.norm_fobs.topic: must be a topic of its own, 'raw-fobs' is also channels.raw_fobs.topic"),
    on_command_line("s3-without-bucket", "storage.s3.enabled=true", "storage.s3.bucket: must be set (or S3_BUCKET) while storage.s3.enabled is true"),
    on_command_line("no-storage-at-all", "storage.local.path=null", "storage.local.path: must be set while storage.s3.enabled is false"),
    in_environment("half-of-the-aws-keys", {"AWS_ACCESS_KEY_ID": "x"}, " AWS_ACCESS_KEY_ID: storage.s3.secret_access_key: must be set together with storage.s3.access_key_id"),
    in_environment("token-without-keys", {"AWS_SESSION_TOKEN": "x"}, " AWS_SESSION_TOKEN: storage.s3.session_token: must come with storage.s3.access_key_id and secret_access_key"),
    in_environment("two-names-two-values", {"S3_BUCKET": "a", "CRYPTOFLOW_STORAGE__S3__BUCKET": "b"}, " S3_BUCKET: storage.s3.bucket: differs from CRYPTOFLOW_STORAGE__S3__BUCKET; set one of them"),
    on_command_line("enabled-without-symbols", f"{FUTURE}.symbols=[]", f"{FUTURE}.symbols: must name at least one symbol while enabled is true"),
    on_command_line("delta-enabled-without-symbols", f"{DELTA}.symbols=", f"{DELTA}.symbols: must name at least one symbol while enabled is true"),
    on_command_line("heartbeat-too-slow", "kafka.heartbeat_interval_ms=20000", "kafka.heartbeat_interval_ms: must be at most a third of kafka.session_timeout_ms, is 20000 of 30000"),
    on_command_line("sasl-incomplete", "kafka.security_protocol=SASL_SSL", *[f"kafka.sasl_{name}: must be set with SASL_SSL" for name in ("mechanism", "username", "password")]),
    on_command_line("sasl-unused", "kafka.sasl_username=me", "kafka.sasl_username: is set, but kafka.security_protocol PLAINTEXT does not use it"),
    on_command_line("ca-unused", "kafka.ssl_cafile=ca.pem", "kafka.ssl_cafile: is set, but kafka.security_protocol PLAINTEXT does not use it"),
    # what a venue refuses, and what cannot be afforded
    on_command_line("limit-the-venue-refuses", f"{FUTURE}.limit=999", f"{FUTURE}.limit: limit 999 is refused by binance future: one of 5, 10, 20, 50, 100, 500, 1000"),
    on_command_line("delta-interval-the-venue-refuses", f"{DELTA}.interval_ms=200", f"{DELTA}.interval_ms: interval_ms 200 is no stream of binance future: one of 0, 100, 250, 500"),
    on_command_line("anchor-limit-the-venue-refuses", f"{DELTA}.limit=5000", f"{DELTA}.limit: limit 5000 is refused by binance future: one of 5, 10, 20, 50, 100, 500, 1000"),
    on_command_line("streams-the-venue-refuses", "reader.streams_per_connection=2000", "reader.streams_per_connection: 2,000 is refused by binance future: at most 1,024 a connection"),
    on_command_line("age-the-venue-refuses", "reader.max_connection_age=25h", "reader.max_connection_age: 90000 s leaves no time for a hand-over: binance future ends a connection after 86400 s"),
    Broken(
        "more-weight-than-there-is",
        ["plan: binance-futures from default route: asks for 2,401 request weight a minute (future polls: 2 symbols x weight 20 x 60, future anchors: 2 symbols x weight 20 / 60 min, instrument lists: 0.2), may spend 1,920 (2,400 x reader.weight_share 0.8); polls leave nothing for the future anchors: poll 1.26 times less often, ask for fewer levels or symbols, or add source addresses"],
        set=[f"{FUTURE}.interval_ms=1000"],
    ),
]  # fmt: skip


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Puts a case's sources in place; gives the command line's arguments."""

    def put(case):
        monkeypatch.chdir(tmp_path)
        for name in [*os.environ]:
            if name.startswith(("CRYPTOFLOW_", "AWS_", "S3_", "SHARD_")):
                monkeypatch.delenv(name)
        for name, value in case.environ.items():
            monkeypatch.setenv(name, value)
        for name, content in (("c.yml", case.yaml), (".env", case.dotenv)):
            if content is not None:
                (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        pairs = [part for pair in case.set for part in ("--set", pair)]
        return [*(["--config", "c.yml"] if case.yaml is not None else []), *pairs]

    return put


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_broken_configuration_ends_with_2_and_says_why_line_by_line(case, arguments):
    result = CliRunner().invoke(app, ["check-config", *arguments(case)])
    assert result.stderr.splitlines() == case.lines
    assert result.exit_code == 2


EVERYTHING_AT_ONCE = Broken(
    "everything-at-once",
    [
        "--set: kafka.steam: unknown key; did you mean kafka.stream?",
        "environment: CRYPTOFLOW_KAFKA: is a section; set one of its keys, such as CRYPTOFLOW_KAFKA__BOOTSTRAP_SERVERS",
        ".env: CRYPTOFLOW_NOPE: unknown variable",
        "c.yml:1: kafka.sasl_password: is a secret and this file is read by many; set CRYPTOFLOW_KAFKA__SASL_PASSWORD in the environment or in .env",
        "c.yml:2: colour: unknown key",
        "environment CRYPTOFLOW_METRICS__PORT: metrics.port: must be a whole number, is 'x'",
        "c.yml:3: metrics.port: must be at least 0, is -1",
        "c.yml:4: channels.norm_fobs.partitions: must be equal for raw and norm, raw has 1 and norm 6",
    ],
    yaml="kafka: {sasl_password: x}\ncolour: red\nmetrics: {port: -1}\nchannels: {raw_fobs: {partitions: 1}}\n",
    environ={"CRYPTOFLOW_METRICS__PORT": "x", "CRYPTOFLOW_KAFKA": "{}"},
    dotenv="CRYPTOFLOW_NOPE=1\n",
    set=["kafka.steam=a"],
)


def test_all_mistakes_of_all_sources_come_at_once(arguments):
    result = CliRunner().invoke(app, ["check-config", *arguments(EVERYTHING_AT_ONCE)])
    assert sorted(result.stderr.splitlines()) == sorted(EVERYTHING_AT_ONCE.lines)
    assert result.exit_code == 2


SERVICES = ("reader", "flattener", "s3writer")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_itself_ends_the_same_way(service, arguments):
    command = [sys.executable, "-m", f"services.{service}", *arguments(EVERYTHING_AT_ONCE)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert sorted(ended.stderr.splitlines()) == sorted(EVERYTHING_AT_ONCE.lines)
    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_file_that_is_not_there_is_named(arguments):
    result = CliRunner().invoke(app, ["check-config", *arguments(Broken("", [])), "-config", "nowhere.yml"])
    assert result.stderr.splitlines() == ["nowhere.yml: file: cannot be read: No such file or directory"]
    assert result.exit_code == 2


def test_a_folder_is_no_file(tmp_path, arguments):
    result = CliRunner().invoke(app, ["check-config", *arguments(Broken("", [])), "--config", str(tmp_path)])
    assert result.stderr.splitlines() == [f"{tmp_path}: file: cannot be read: Is a directory"]
    assert result.exit_code == 2
