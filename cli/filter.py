"""Which records of a history are shown (pure)."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from kube_router.cli.moment import ALL_SEQS, Point, SeqRange


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are shown."""

    kinds: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()
    seqs: SeqRange = ALL_SEQS
    since: Point | None = None
    until: Point | None = None

    def names(self, kind: str, key: str) -> bool:
        """Say whether what concerns this object is shown."""
        if self.kinds and kind.lower() not in self.kinds:
            return False
        return not self.keys or any(fnmatchcase(key, pattern) for pattern in self.keys)

    def spans(self, seq: int, t: int) -> bool:
        """Say whether what was recorded then is shown."""
        if seq not in self.seqs or (
            self.since is not None and (seq < (self.since.seq or 0) or t < (self.since.t or 0))
        ):
            return False
        return self.until is None or not self.until.is_before(seq, t)
