"""The proof that create means put-if-absent, against stores that break it in each of the ways there are."""

from __future__ import annotations

import threading

import pytest

from shared.errors import FatalError, RetryableError
from shared.lake.layout import PROBE_ROOT
from shared.lake.store import PROBE_WRITERS, prove_create_only


class Honest:
    """A dictionary that keeps the promise."""

    url = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def create(self, path: str, body: bytes) -> bool:
        with self.lock:
            return self.objects.setdefault(path, body) is body

    def get(self, path: str) -> bytes | None:
        return self.objects.get(path)


class Ignoring(Honest):
    """Overwrites, and says so to everybody."""

    def create(self, path: str, body: bytes) -> bool:
        self.objects[path] = body
        return True


class Racing(Honest):
    """Refuses who comes late; writers at once do not see one another."""

    def __init__(self) -> None:
        super().__init__()
        self.start = threading.Barrier(PROBE_WRITERS)

    def create(self, path: str, body: bytes) -> bool:
        if path in self.objects:
            return False
        self.start.wait()
        self.objects[path] = body
        return True


class Forgetting(Honest):
    """Lets one of several win, and forgets that afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def create(self, path: str, body: bytes) -> bool:
        with self.lock:
            self.asked += 1
            if self.asked in (1, PROBE_WRITERS + 1):
                self.objects[path] = body
                return True
            return False


class Overwriting(Honest):
    """Answers as it should, and overwrites nevertheless."""

    def create(self, path: str, body: bytes) -> bool:
        with self.lock:
            new = path not in self.objects
            self.objects[path] = body
            return new


class Losing(Honest):
    """Its answer to who created an object is lost on the way, and the client's own second attempt meets that object."""

    def create(self, path: str, body: bytes) -> bool:
        super().create(path, body)
        return False


class Refusing(Honest):
    """Says of every object that it is there already."""

    def create(self, *_: object) -> bool:
        return False


def test_a_lost_answer_is_no_proof_and_asked_for_again():
    with pytest.raises(RetryableError, match="none of 4 writers was told that it had created"):
        prove_create_only(Losing())


def test_an_honest_store_passes():
    store = Honest()
    path = prove_create_only(store)
    assert path.startswith(f"{PROBE_ROOT}/")
    assert list(store.objects) == [path]


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (Ignoring, r"ignores If-None-Match: of 4 writers .* 4 were told .* later was told so too"),
        (Racing, r"ignores If-None-Match: of 4 writers .* 4 were told .* later was refused"),
        (Forgetting, r"ignores If-None-Match: of 4 writers .* 1 were told .* later was told so too"),
        (Refusing, r"ignores If-None-Match: of 4 writers .* 0 were told"),
        (Overwriting, r"says that it refuses to overwrite an object, and overwrites it"),
    ],
    ids=["ignoring", "racing", "forgetting", "refusing", "overwriting"],
)
def test_a_store_that_breaks_it_is_refused_in_words(store, words):
    with pytest.raises(FatalError, match=words):
        prove_create_only(store())
