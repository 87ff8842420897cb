"""Topics as the settings want them: created once, checked in words, never altered."""

import pytest

from shared import topics
from shared.errors import FatalError
from shared.kafka import Admin, TopicSpec


@pytest.fixture
def made(broker, make_settings):
    """Settings for this broker: ``made(partitions=…, hours=…)`` of the raw and norm topics of snapshots."""

    def make(partitions=2, hours=168, replicas=1):
        channel = {"partitions": partitions, "retention_hours": hours}
        names = ("raw_fobs", "norm_fobs", "raw_fobd", "norm_fobd", "dead_letters")
        return make_settings(
            kafka={"bootstrap_servers": broker.bootstrap_servers, "replication_factor": replicas},
            channels=dict.fromkeys(names, channel),
        )

    return make


async def test_five_topics_are_created_and_found_right(made, admin):
    settings = made()
    report = await topics.create(settings)
    names = [spec.name for spec in topics.specs(settings)]
    assert (len(report.created), report.exists, report.differs) == (5, (), ())
    assert await topics.check(settings) == []
    found = await admin.describe(names)
    for name in names:
        assert found[name].partitions == 2
        assert found[name].ready
        wanted = {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": "16777216",
            "message.timestamp.type": "CreateTime",
            "retention.ms": "604800000",
        }
        assert {key: found[name].configs[key] for key in wanted} == wanted


async def test_created_again_they_stay_as_they_are(made):
    settings = made()
    await topics.create(settings)
    report = await topics.create(settings)
    assert (report.created, len(report.exists), report.differs) == ((), 5, ())


async def test_missing_topics_are_named_and_not_made_by_the_question(made, admin):
    settings = made()
    problems = await topics.check(settings)
    assert len(problems) == 5
    assert all("does not exist: run `cryptoflow topics create`" in problem for problem in problems)
    assert set((await admin.describe([spec.name for spec in topics.specs(settings)])).values()) == {None}


async def test_another_partition_count_is_refused_in_words(made):
    await topics.create(made(partitions=2))
    problems = await topics.check(made(partitions=3))
    raw = made().channels.raw_fobs.topic
    assert len(problems) == 5
    assert problems[0].startswith(
        f"topic {raw} has 2 partitions, the settings say 3: the count is fixed for the stream"
    )
    assert "put 2 back, or set a new kafka.stream" in problems[0]
    assert (await topics.create(made(partitions=3))).differs == tuple(problems)


async def test_a_retention_below_the_settings_is_told_and_one_above_is_not(made):
    await topics.create(made(hours=24))
    assert "retention.ms=86400000, needed is at least 604800000" in (await topics.check(made(hours=168)))[0]
    assert await topics.check(made(hours=12)) == []


async def test_a_topic_that_would_refuse_or_compact_records_is_told(made, admin):
    settings = made()
    [raw, *rest] = topics.specs(settings)
    configs = {"max.message.bytes": "1048588", "cleanup.policy": "compact", "retention.ms": "-1"}
    await admin.create_topics([TopicSpec(raw.name, raw.partitions, configs=configs), *rest])
    assert (await topics.create(settings)).differs == (
        f"topic {raw.name} has max.message.bytes=1048588, needed is at least 16777216: alter the topic",
        f"topic {raw.name} has cleanup.policy=compact, needed is delete: alter the topic",
    )


async def test_more_replicas_than_brokers_are_refused_by_the_broker(made):
    with pytest.raises(FatalError, match=r"create topic raw-fobs-.*[Rr]eplication"):
        await topics.create(made(replicas=3))


async def test_a_cluster_has_an_id_that_stays(settings, admin):
    async with Admin(settings.kafka, client_id="contract-second") as second:
        assert await admin.cluster_id() == await second.cluster_id() != ""


async def test_two_clusters_have_two_ids(broker, admin):
    broker.needs("cluster id")
    assert await admin.cluster_id() != "MkU3OEVBNTctOEUyRi00"
