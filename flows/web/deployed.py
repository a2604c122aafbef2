"""Which generations answer: the deployed one, a candidate, one in silence, any by its number."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from flows.experiments.experiment import Experiment
from flows.generations.lineage import deployed
from flows.pages.source import changed
from flows.web.answering import Answerer
from flows.web.keys import Clients
from planners.errors import Busy, ComponentFailure, InvalidInput
from warehouse.findings import ApiKey
from warehouse.places.connect import place_of
from warehouse.places.file import File, Still
from warehouse.store import Warehouse

UNREADABLE = "what was answered before cannot be read just now; try again later"
"""Told to a client, who has no business with the warehouse's place; the log says more."""
AGAIN = 60.0
"""Seconds until a generation that could not be loaded is tried again."""


class UnknownModel(InvalidInput):
    """No generation has this name."""


class Wanted(NamedTuple):
    """The generations that should answer: all, a share of sessions, and in silence."""

    current: int
    candidate: int | None
    silent: int | None


class Deployed:
    """The generations of an experiment that answer: the deployed one, or one by its number."""

    def __init__(self, warehouse: str, experiment: Experiment, clients: Clients) -> None:
        self.warehouse, self.experiment, self.id = warehouse, experiment, experiment.id
        self.clients = clients
        self._answerers: dict[int, Answerer] = {}
        self._lock, self._loading, self._deciding = (threading.Lock() for _ in range(3))
        self._closed = False
        self._failed: dict[int, float] = {}
        """When a generation that is tried could not be loaded last."""
        self.candidate: int | None = None
        """The generation that answers a share of sessions, though it is not deployed."""
        self.silent: int | None = None
        """The one that answers in silence."""
        self._held: Warehouse | None = None
        """A lake, open: others of this process then need not connect to it anew."""
        self._seen = changed(place_of(warehouse).published)
        with self.reading() as store:
            self.current = deployed(store, experiment)
            self.clients.know(store.every(ApiKey))
            self._wanted = self._look(store)
        self.of(self.current)
        self.settle()

    def reading(self) -> Warehouse:
        """The published snapshot, which no writer holds, or the warehouse before there is one."""
        place = place_of(self.warehouse)
        published = place.published
        if not isinstance(place, File) and self._held is None:
            self._held = Warehouse(str(place), read_only=True)
        if isinstance(published, File) and not published.is_new:
            # Readers of one file share a database, perhaps that of before the last publication.
            return Warehouse(Still(published.path), read_only=True)
        return Warehouse(str(place), read_only=True)

    def looking(self) -> Warehouse:
        """The published state, for a look while others write. Raises Busy if there is none yet:
        a run would be refused for as long as the warehouse itself is looked at. Raises
        ComponentFailure where it cannot be read, which is no fault of a client's.
        """
        if place_of(self.warehouse).published.is_new:
            raise Busy("nothing has been published yet; try again later")
        try:
            return self.reading()
        except InvalidInput as error:
            sys.stderr.write(f"the warehouse cannot be read: {error}\n")
            self._let_go_of_lake()
            raise ComponentFailure(UNREADABLE) from error

    def _let_go_of_lake(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _look(self, store: Warehouse) -> Wanted:
        self.known = [one.index for one in store.generations(self.id)]
        found = deployed(store, self.experiment)
        return Wanted(found, *self._tried(store, found, self.known[-1]))

    def _tried(self, store: Warehouse, current: int, newest: int) -> tuple[int | None, int | None]:
        """Who answers a share of sessions though it is not deployed, and who answers in silence."""
        users, decisions = self.experiment.deployment, store.promotions(self.id)
        decided = {one.generation for one in decisions}
        if self.experiment.promote == "if-preferred" and newest in decided:
            return None, None  # it had its chance
        if users is None or newest == current or newest in self._tainted(store):
            return None, None
        rolled_back = newest in {one.generation for one in decisions if one.promoted}
        return (
            newest if users.candidate and not rolled_back else None,
            newest if users.shadow else None,
        )

    def _tainted(self, store: Warehouse) -> set[int]:
        """The generations that learned what users wanted to be forgotten."""
        if not store.forgotten():
            return set()
        return set(store.query("tainted_of", experiment=self.id)["generation"])

    def look(self) -> None:
        """Look which keys are good, and which generations should answer; who is at work answers
        from now on, and who should answer no more does not.
        """
        if (seen := changed(place_of(self.warehouse).published)) == self._seen and seen:
            return
        try:
            with self.reading() as store:
                self.clients.know(store.every(ApiKey))  # revoked, even if nothing else can be read
                wanted = self._look(store)
        except BaseException:
            self._let_go_of_lake()  # PostgreSQL may have been started again
            raise
        with self._deciding:
            self._wanted = wanted
            self.candidate = self.candidate if self.candidate == wanted.candidate else None
            self.silent = self.silent if self.silent == wanted.silent else None
            if self.at_work(wanted.current) is not None:
                self.current = wanted.current
        self._seen = seen  # only now: if it could not be read, it is tried again

    @property
    def is_settled(self) -> bool:
        """Whether all that should answer does, or failed to be loaded lately."""
        now, wanted = time.monotonic(), self._wanted
        tried = (wanted.candidate, self.candidate), (wanted.silent, self.silent)
        waits = [one for one, present in tried if one is not None and one != present]
        return wanted.current == self.current and all(
            now - self._failed.get(one, -AGAIN) < AGAIN for one in waits
        )

    def settle(self) -> None:
        """Load what should answer, and let it answer then. Raises what loading the deployed one
        raises; what is only tried and cannot be loaded answers nobody, and is tried again later.
        """
        wanted = self._wanted
        self.of(wanted.current)
        with self._deciding:
            if wanted.current == self._wanted.current:  # nobody decided otherwise meanwhile
                self.current = wanted.current
        for index in dict.fromkeys((wanted.candidate, wanted.silent)):
            if index is not None and time.monotonic() - self._failed.get(index, -AGAIN) >= AGAIN:
                self._try(index, wanted)

    def _try(self, index: int, wanted: Wanted) -> None:
        try:
            self.of(index)
        except Exception as error:  # out of memory too: the deployed one answers on
            sys.stderr.write(f"generation {index} answers nobody: {error}\n")
            self._failed[index] = time.monotonic()
            return
        with self._deciding:
            if wanted == self._wanted:
                self.candidate = index if wanted.candidate == index else self.candidate
                self.silent = index if wanted.silent == index else self.silent

    def chosen(self, model: str, session: str | None) -> int:
        """The generation that a model's name means. Raises UnknownModel where there is none."""
        name, at, number = model.partition("@")
        numbered = {str(index): index for index in self.known}
        if name not in (self.experiment.name, self.id) or (at and number not in numbered):
            raise UnknownModel(
                f"the model {model!r} does not exist; there is {', '.join(self.names())}"
            )
        if at:
            return numbered[number]
        share = self.experiment.deployment.candidate if self.experiment.deployment else 0.0
        candidate = self.candidate  # as it is now: another thread decides
        if candidate is not None and session is not None and share_of(session) < share:
            return candidate
        return self.current

    def shadow(self, generation: int, nonce: str) -> int | None:
        """The generation that answers a request in silence beside the one that answers it, if any
        does.
        """
        share = self.experiment.deployment.shadow if self.experiment.deployment else 0.0
        return self.silent if generation == self.current and share_of(nonce) < share else None

    def names(self) -> Iterator[str]:
        """The names of models: the deployed generation, then each by its number."""
        yield self.experiment.name
        yield from (f"{self.experiment.name}@{index}" for index in self.known)

    def of(self, generation: int) -> Answerer:
        """The generation at work; it is loaded if it is not, while the others go on answering."""
        if (found := self.at_work(generation)) is not None:
            return found
        with self._loading:
            if (found := self.at_work(generation)) is None:
                with self.reading() as store:
                    found = Answerer(store, self.experiment, generation)
                with self._lock:
                    late = self._closed
                    if not late:
                        self._answerers[generation] = found
                        self._let_go(generation)
                if late:
                    found.close()
                    raise ComponentFailure("the gateway is being stopped")
        return found

    def at_work(self, generation: int) -> Answerer | None:
        """The generation if it is at work already."""
        with self._lock:
            return self._answerers.get(generation)

    def _let_go(self, fresh: int) -> None:
        """Stop generations that answer nobody any more, but for two."""
        needed = {self.current, self.candidate, self.silent, fresh, *self._wanted}
        old = [index for index in self._answerers if index not in needed]
        for index in old[:-2]:
            leaving = self._answerers.pop(index)
            threading.Thread(target=leaving.close, daemon=True).start()

    def close(self) -> None:
        """Answer what waits, then stop all."""
        with self._lock:
            self._closed, leaving = True, list(self._answerers.values())
        for answerer in leaving:
            answerer.close()
        self._let_go_of_lake()


def share_of(name: str) -> float:
    """Where a name falls between 0 and 1: always the same."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
