"""A `Store` in memory whose creations fail on demand: not applied, applied and not answered, applied later."""

from shared.errors import RetryableError
from shared.lake.store import Entry

FAULTS = ("answer lost", "applied late", "not applied")


class MemoryStore:
    url = "memory"

    def __init__(self):
        self.objects = {}
        self.faults = []  # of the next creations
        self.late = []

    def create(self, path, body):
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "applied late":
            self.late.append((path, body))
        if fault in ("applied late", "not applied"):
            raise RetryableError(fault)
        created = path not in self.objects
        self.objects.setdefault(path, body)
        if fault == "answer lost":
            raise RetryableError(fault)
        return created

    def land(self):
        """What is still under way is applied, where nothing stands yet."""
        while self.late:
            self.objects.setdefault(*self.late.pop())

    def get(self, path):
        return self.objects.get(path)

    def tail(self, path, size_bytes):
        return self.objects[path][-size_bytes:] if path in self.objects else None

    def size(self, path):
        return len(self.objects[path]) if path in self.objects else None

    def list(self, prefix, start_after=None, limit=None):
        return list(self.walk(prefix, start_after or ""))[:limit]

    def walk(self, prefix, start_after=""):
        for path in sorted(self.objects):
            if path.startswith(prefix) and path > start_after:
                yield Entry(path, len(self.objects[path]))

    def leftovers(self):
        return []

    def probe(self):
        pass
