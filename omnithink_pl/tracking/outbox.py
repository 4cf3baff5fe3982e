"""What a run has to say to its tracking store, kept until the store has it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, final

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from omnithink_pl.tracking.store import SETTING, TrackingError, Unanswered, outage

Entry: TypeAlias = dict[str, Any]
"""Plain values, for a checkpoint: the kind, and what belongs to it."""
RETRY_AFTER = 15.0  # seconds; a server that does not even refuse connections costs a step ``PROBE``
PROBE = 3.0  # seconds
PATIENCE = 600.0  # seconds


@final
class Outbox:
    """Entries in the order in which they were made, each of which leaves when the store has it.

    While a tracking server is away, or a database locked, training goes on and entries wait. They are part of every
    checkpoint: a run that is ended meanwhile delivers them when it is resumed. Any other failure is raised, and what
    could not be delivered waits as well.

    Args:
        uri: Of the store.
        deliver: Brings one entry to the store; delivering twice must be harmless.
        clock: Monotonic seconds.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        uri: str,
        deliver: Callable[[Entry], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.uri = uri
        self.entries: deque[Entry] = deque()
        self._deliver = deliver
        self._clock = clock
        self._sleep = sleep
        self._away_since: float | None = None
        self._next_try = 0.0

    def add(self, entry: Entry) -> None:
        """Take an entry, and deliver it if the store can be reached.

        Raises:
            TrackingError: If the store refuses an entry, as where its disk is full.
        """
        self.entries.append(entry)
        self.flush()

    def restore(self, entries: Iterable[Entry]) -> None:
        """Put entries of a checkpoint before all others."""
        self.entries.extendleft(reversed(list(entries)))

    def flush(self) -> None:
        """Deliver what waits, unless the store was away a moment ago; raises as :meth:`add`."""
        if self._away_since is None or self._clock() >= self._next_try:
            self._try()

    def drain(self, patience: float = PATIENCE) -> None:
        """Deliver what waits, and wait for a store that is away.

        Raises:
            TrackingError: If it is still away after so many seconds, or refuses an entry.
        """
        end = self._clock() + patience
        reason = self._try()
        while reason and self._clock() < end:
            self._sleep(RETRY_AFTER)
            reason = self._try()
        if reason:
            raise TrackingError(
                f"{SETTING}: {self.uri} has been away for {patience:g} seconds ({reason}). Nothing is lost: what it "
                f"did not get is in the checkpoint; start it, then continue with --ckpt_path last"
            )

    def _try(self) -> str:
        """Deliver as much as the store takes; return why it is away, if it is."""
        began = self._clock()
        reason = self._away() if self.entries else ""
        while self.entries and not reason:
            try:
                self._deliver(self.entries[0])
            except Unanswered:
                reason = self._away() or "it answers probes, but no requests"
            except TrackingError as error:
                reason = self._away() or ("it is locked" if "is locked" in str(error) else "")
                if not reason:
                    raise
            else:
                self.entries.popleft()
        self._note(reason, self._clock() - began)
        return reason

    def _away(self) -> str:
        return outage(self.uri, PROBE) if self.uri.startswith("http") else ""

    def _note(self, reason: str, spent: float) -> None:
        now = self._clock()
        if reason:
            self._next_try = now + max(RETRY_AFTER, 4 * spent)  # a server that hangs takes a fifth of the time at most
            if self._away_since is None:
                self._away_since = now
                rank_zero_warn(
                    f"{self.uri} is away ({reason}); training goes on, and what belongs there is kept until it is back"
                )
        elif self._away_since is not None:
            rank_zero_info(f"{self.uri} is back after {now - self._away_since:.0f} seconds, and has got everything")
            self._away_since = None
