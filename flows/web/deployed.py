"""Which generations answer: the deployed one, a candidate, one in silence, any by its number."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from hashlib import blake2b

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


class UnknownModel(InvalidInput):
    """No generation has this name."""


class Deployed:
    """The generations of an experiment that answer: the deployed one, or one by its number."""

    def __init__(self, warehouse: str, experiment: Experiment, clients: Clients) -> None:
        self.warehouse, self.experiment, self.id = warehouse, experiment, experiment.id
        self.clients = clients
        self._answerers: dict[int, Answerer] = {}
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._seen = 0
        self.candidate: int | None = None
        """The generation that answers a share of sessions, though it is not deployed."""
        self.silent: int | None = None
        """The one that answers in silence."""
        self._held: Warehouse | None = None
        """A lake, open: others of this process then need not connect to it anew."""
        with self.reading() as store:
            self.current = deployed(store, experiment)
            self.clients.know(store.every(ApiKey))
            tried = self._look(store)
        self.of(self.current)
        self.candidate, self.silent = map(self._ready, tried)

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

    def _look(self, store: Warehouse) -> tuple[int | None, int | None]:
        """See which generations there are; returns those that are tried, as `_tried` does."""
        self.known = [one.index for one in store.generations(self.id)]
        return self._tried(store, self.known[-1])

    def _ready(self, generation: int | None) -> int | None:
        """A generation that is tried, at work before anybody is answered by it; None where it
        cannot be loaded: it answers nobody until something changes.
        """
        if generation is None:
            return None
        try:
            self.of(generation)
        except (InvalidInput, ComponentFailure) as error:
            sys.stderr.write(f"generation {generation} answers nobody: {error}\n")
            return None
        return generation

    def _tried(self, store: Warehouse, newest: int) -> tuple[int | None, int | None]:
        """Who answers a share of sessions though it is not deployed, and who answers in silence."""
        users, decisions = self.experiment.deployment, store.promotions(self.id)
        decided = {one.generation for one in decisions}
        if self.experiment.promote == "if-preferred" and newest in decided:
            return None, None  # it had its chance
        if users is None or newest == self.current or newest in self._tainted(store):
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

    def refresh(self) -> None:
        """Look which generation is deployed now; load it before it answers."""
        if (seen := changed(place_of(self.warehouse).published)) == self._seen and seen:
            return
        try:
            with self.reading() as store:
                self.clients.know(store.every(ApiKey))  # revoked, even if nothing else can be read
                if (found := deployed(store, self.experiment)) != self.current:
                    self.of(found)
                    self.current = found
                tried = self._look(store)
            self.candidate, self.silent = map(self._ready, tried)
        except BaseException:
            self._let_go_of_lake()  # PostgreSQL may have been started again
            raise
        self._seen = seen  # only now: if it could not be read, it is tried again

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
        if self.candidate is not None and session is not None and share_of(session) < share:
            return self.candidate
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
                    self._answerers[generation] = found
                    self._let_go(generation)
        return found

    def at_work(self, generation: int) -> Answerer | None:
        """The generation if it is at work already."""
        with self._lock:
            return self._answerers.get(generation)

    def _let_go(self, fresh: int) -> None:
        """Stop generations that answer nobody any more, but for two."""
        needed = {self.current, self.candidate, self.silent, fresh}
        old = [index for index in self._answerers if index not in needed]
        for index in old[:-2]:
            leaving = self._answerers.pop(index)
            threading.Thread(target=leaving.close, daemon=True).start()

    def close(self) -> None:
        """Answer what waits, then stop all."""
        for answerer in self._answerers.values():
            answerer.close()
        self._let_go_of_lake()


def share_of(name: str) -> float:
    """Where a name falls between 0 and 1: always the same."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
