"""A lake in memory that answers the claim protocol, for tests of its pure core."""

from shared.lake.claim_log import (
    ClaimLog,
    Create,
    CreateAll,
    DataObject,
    Digests,
    FirstAfter,
    Get,
    Own,
    Rebuild,
)
from shared.lake.claims import Claim, FileEntry

LOG = ClaimLog(kind="fobs", stream="main", partition=0, topic="norm-fobs", cluster_id="cluster")


class MemoryLake:
    """Create-only objects. A file's digest is the first line of its body."""

    def __init__(self, objects=None, rebuilt=None):
        self.objects = dict(objects or {})
        self.rebuilt = dict(rebuilt or {})
        self.asked = []

    def create(self, path, body):
        created = path not in self.objects
        self.objects.setdefault(path, body)
        return created

    def answer(self, request):  # noqa: PLR0911  # one for each request
        """What a healthy store and Kafka say."""
        self.asked.append(request)
        match request:
            case Own():
                return None
            case Create(path, body):
                return self.create(path, body)
            case CreateAll(objects):
                return tuple(self.create(thing.entry.path, thing.body) for thing in objects)
            case Get(path):
                return self.objects.get(path)
            case FirstAfter(prefix, start_after):
                return min((p for p in self.objects if p.startswith(prefix) and p > start_after), default=None)
            case Digests(paths):
                return tuple(self.digest(path) for path in paths)
            case Rebuild(claim):
                return self.rebuilt[claim.first]

    def digest(self, path):
        return self.objects[path].split(b"\n")[0].decode() if path in self.objects else None


def play(lake, steps):
    """Run a protocol to its end over a healthy lake; gives its result."""
    try:
        request = next(steps)
        while True:
            request = steps.send(lake.answer(request))
    except StopIteration as end:
        return end.value


def object_of(name, text=None, rows=1):
    """A file `name` whose digest says its text."""
    digest = f"digest of {name}" if text is None else text
    return DataObject(FileEntry(path=name, rows=rows, digest=digest), f"{digest}\n".encode())


def claim_of(first, last, *objects, writer="me", done_before=-1, done_after=-1, **more):
    """A claim of a range that promises these files."""
    return Claim(
        kind="fobs",
        stream="main",
        partition=0,
        first=first,
        last=last,
        **{"schema_version": 1, **more},
        topic="norm-fobs",
        files=tuple(thing.entry for thing in objects),
        done_before=done_before,
        done_after=done_after,
        writer=writer,
        last_timestamp_ms=0,
        last_src=f"raw-fobs/0/0-{max(done_after, 0)}",
    )
