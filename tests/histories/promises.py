"""What a lake promises, asked of its objects alone, whatever happened before."""

import json

from shared.lake import claims, layout
from shared.lake.claims import Claim, LostClaim, Origin

OF = {"origin": Origin, "claim": Claim, "lost": LostClaim}


class Promises:
    """A lake in memory and the norm log behind it, read as `verify` would."""

    def __init__(self, objects, log):
        self._log = log
        self.files = {path: body for path, body in objects.items() if path.startswith("fobs/")}
        found = [
            (parsed, claims.decode(body, OF[parsed.what], path))
            for path, body in sorted(objects.items())
            if (parsed := layout.parse_claim_path(path))
        ]
        self.origin = next((document for parsed, document in found if parsed.what == "origin"), None)
        self.claims = [document for parsed, document in found if parsed.what == "claim"]
        self.lost = [document for parsed, document in found if parsed.what == "lost"]

    def rows(self):
        return [raw for body in self.files.values() for raw in json.loads(body)]

    def no_row_is_there_twice(self):
        rows = self.rows()
        assert len(rows) == len(set(rows)), sorted({raw for raw in rows if rows.count(raw) > 1})

    def claims_tile_from_the_origin(self):
        at, done = self.origin.first if self.origin else None, -1
        for claim in self.claims:
            assert claim.first == at
            assert claim.done_before == done <= claim.done_after
            assert claim.last < self._log.end
            at, done = claim.last + 1, claim.done_after

    def one_claim_has_one_schema(self):
        for claim in self.claims:
            assert len({sent.version for sent in self._log.records[claim.first : claim.last + 1]}) == 1

    def files_are_promised_ones(self, foreign):
        promised = {entry.path: entry.digest for claim in self.claims for entry in claim.files}
        for path, body in self.files.items():
            assert path in foreign or promised.get(path) == body.decode(), path

    def only_the_last_claim_is_open(self):
        ended = {lost.first for lost in self.lost}
        for claim in self.claims[:-1]:
            assert claim.first in ended or all(entry.path in self.files for entry in claim.files), claim.first

    def nothing_is_missing_without_a_word(self, safe, *, holes_may_show_later):
        missing = self._log.raws(safe) - set(self.rows()) - self._excused()
        if holes_may_show_later:  # a hole is seen at the first record behind it
            done = max((claim.done_after for claim in self.claims if claim.last < safe), default=-1)
            missing = {raw for raw in missing if raw <= done}
        assert not missing, (safe, missing)

    def _excused(self):
        """Raw offsets of which the lake says that they are missing, or that lie before its origin."""
        said = {raw for claim in self.claims for low, high in claim.holes for raw in range(low, high + 1)}
        digests = {entry.path: entry.digest for claim in self.claims for entry in claim.files}
        said |= {raw for lost in self.lost for path in lost.missing for raw in json.loads(digests[path])}
        return said | (self._log.raws(self.origin.first) if self.origin else set())
