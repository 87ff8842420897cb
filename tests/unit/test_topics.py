"""What the topics must be, out of the settings alone. Against brokers: tests/contract/test_topics.py."""

import pytest

from shared.kafka import TopicDescription, TopicSpec
from shared.settings import Settings, load
from shared.topics import problems_of, specs


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # away from config/config.yml

    def make(**values) -> Settings:
        return load(
            None, {key.replace("__", "."): str(value) for key, value in values.items()}, {}, tmp_path / "no.env"
        )

    return make


def found(spec: TopicSpec, **changes) -> TopicDescription:
    values = {"partitions": spec.partitions, "replication_factor": spec.replication_factor, "configs": spec.configs}
    return TopicDescription(name=spec.name, ready=True, **(values | changes))


def test_the_five_topics_by_their_default_names(settings):
    assert [(spec.name, spec.partitions) for spec in specs(settings())] == [
        ("raw-fobs", 6),
        ("norm-fobs", 6),
        ("raw-fobd", 6),
        ("norm-fobd", 6),
        ("dead-letters", 6),
    ]


def test_retention_and_partitions_come_from_each_channel(settings):
    changed = settings(
        channels__raw_fobs__partitions=12,
        channels__norm_fobs__partitions=12,
        channels__dead_letters__retention_hours=720,
    )
    by_name = {spec.name: spec for spec in specs(changed)}
    assert by_name["raw-fobs"].partitions == by_name["norm-fobs"].partitions == 12
    assert by_name["raw-fobd"].partitions == 6
    assert by_name["dead-letters"].configs["retention.ms"] == "2592000000"
    assert by_name["raw-fobs"].configs["retention.ms"] == "604800000"


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, None), (2, "1"), (3, "2"), (5, "2")])
def test_an_acknowledged_record_is_on_two_brokers_where_three_hold_it(settings, replicas, in_sync):
    for spec in specs(settings(kafka__replication_factor=replicas)):
        assert spec.replication_factor == replicas
        assert spec.configs.get("min.insync.replicas") == in_sync


def test_topics_as_they_should_be_have_no_problems(settings):
    for spec in specs(settings()):
        assert problems_of(spec, found(spec), "main") == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"partitions": 3},
            "topic raw-fobs has 3 partitions, the settings say 6: the count is fixed for the stream 'main'",
        ),
        ({"partitions": 12}, "topic raw-fobs has 12 partitions, the settings say 6"),
        ({"configs": {"max.message.bytes": "1048588"}}, "max.message.bytes=1048588, needed is at least 16777216"),
        ({"configs": {"retention.ms": "3600000"}}, "retention.ms=3600000, needed is at least 604800000"),
        ({"configs": {"cleanup.policy": "compact,delete"}}, "cleanup.policy=compact,delete, needed is delete"),
        (
            {"configs": {"message.timestamp.type": "LogAppendTime"}},
            "message.timestamp.type=LogAppendTime, needed is CreateTime",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_would_harm_the_data_is_told(settings, changes, told):
    spec = specs(settings())[0]
    [problem] = problems_of(spec, found(spec, **changes), "main")
    assert told in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"configs": {"retention.ms": "-1"}},
        {"configs": {"max.message.bytes": "33554432"}},
        {"configs": {"compression.type": "zstd", "segment.ms": "1"}},
        {"replication_factor": 3},
        {"configs": {}},
    ],
    ids=["kept for ever", "larger records", "the operator's business", "more copies", "a broker that tells nothing"],
)
def test_what_harms_nothing_is_left_to_the_operator(settings, changes):
    spec = specs(settings())[0]
    assert problems_of(spec, found(spec, **changes), "main") == []


def test_fewer_copies_than_wanted_are_told(settings):
    spec = specs(settings(kafka__replication_factor=3))[0]
    [problem] = problems_of(spec, found(spec, replication_factor=1), "main")
    assert problem.startswith("topic raw-fobs has replication factor 1, the settings say 3")


def test_a_topic_that_is_not_there_is_told_with_the_command_that_makes_it(settings):
    assert problems_of(specs(settings())[0], None, "main") == [
        "topic raw-fobs does not exist: run `cryptoflow topics create`"
    ]
