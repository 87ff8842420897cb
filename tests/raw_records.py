"""Raw records as the reader writes them, and an archive made of them by the s3writer's own steps, for tests."""

from services.s3writer import files, raw
from services.s3writer.buffer import Buffer
from services.s3writer.take import Taker
from shared.kafka import Record
from shared.lake import claims, layout
from shared.lake.claim_log import ClaimLog
from shared.lake.schema import SCHEMA_VERSION
from shared.messages import RawHeaders, RawHeadersOf
from tests.norm_records import BTC, ETH, NOON_NS

LOG = ClaimLog(kind="raw-fobd", stream="main", partition=3, topic="raw-fobd", cluster_id="cluster-a")


def headers(book=BTC, *, type_="update", recv_ns=NOON_NS, seq=0, stream="main", **more):
    """As the reader encodes them."""
    told = RawHeaders(
        stream=stream,
        exchange=book.exchange,
        market=book.market,
        symbol=book.symbol,
        type=type_,
        recv_ns=recv_ns,
        conn="host:1700000000000000000:1",
        seq=seq,
        **{"ip": "192.0.2.1", **more},
    )
    return tuple(RawHeadersOf(told).encode(recv_ns, seq) if type_ == "update" else told.encode())


def record(offset, book=BTC, *, value=None, log=LOG, **more):
    """One record of a raw topic, received a second after the one before."""
    recv_ns = more.pop("recv_ns", NOON_NS + offset * 1_000_000_000)
    return Record(
        topic=log.topic,
        partition=log.partition,
        offset=offset,
        timestamp_ms=recv_ns // 1_000_000 + 3,
        key=book.key,
        value=b'{"e":"depthUpdate","u":%d}' % offset if value is None else value,
        headers=headers(book, recv_ns=recv_ns, seq=offset, **more),
    )


def some(count=12, first=0, **more):
    """Records of two books in turn."""
    return [record(offset, BTC if offset % 2 else ETH, **more) for offset in range(first, first + count)]


def buffered(records, *, log=LOG, done=None):
    """As the s3writer holds them."""
    taker = Taker(records[0].offset - 1 if done is None else done)
    buffer = Buffer(first=taker.done + 1)
    for each in records:
        buffer.add(raw.take(log, each, taker), 0.0)
    return buffer


def flush(store, records, *, log=LOG, done=None, complete=True, **options):
    """Write one claim of these records and its files."""
    buffer = buffered(records, log=log, done=done)
    origin = claims.Origin(first=buffer.first, cluster_id=log.cluster_id, topic=log.topic)
    store.create(layout.origin_path(log.kind, log.stream, log.partition), claims.encode(origin))
    built = files.build(log, buffer.first, buffer.last, buffer.records, "zstd", **options)
    claim = claims.Claim(
        kind=log.kind,
        stream=log.stream,
        partition=log.partition,
        first=buffer.first,
        last=buffer.last,
        schema_version=SCHEMA_VERSION,
        topic=log.topic,
        files=tuple(made.entry for made in built.objects),
        done_before=buffer.first - 1,
        done_after=buffer.last,
        holes=buffer.holes,
        min_recv_ns=built.min_recv_ns,
        max_recv_ns=built.max_recv_ns,
        newest_recv_ns=buffer.records[-1].taken.newest_recv_ns,
        writer="me",
        last_timestamp_ms=records[-1].timestamp_ms,
        last_src=str(buffer.records[-1].src),
    )
    assert store.create(layout.claim_path(log.kind, log.stream, log.partition, claim.first), claims.encode(claim))
    for made in built.objects:
        if complete:
            assert store.create(made.entry.path, made.body)
    return claim
