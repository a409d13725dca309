"""Whether the store still holds, byte for byte, what the ledgers, the records and the result records name.

Everything is read whole and hashed again: what the file system says of a file proves nothing about its bytes. Beside
the bytes, the two ledgers of a living stream have to tell one story.
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from data_catalog import ledger, promotions, shared_files, store
from data_catalog.places import home, results_root
from data_catalog.promotions import Promotion
from data_catalog.refs import Spec, digests_in
from models import living
from models.evaluation.record import known_experiments, pointed_to
from models.needs import known_streams, to_go_on
from models.versions import brought_by, champion, versions

READERS = 4  # files hashed at a time
State = Literal["intact", "missing", "damaged"]


class Finding(Spec):
    """Something that is named and not there as it was."""

    what: str  # digest, or the path of a ledger or result record
    state: Literal["missing", "damaged", "contradictory"]
    needed_by: str
    live: bool  # whether a live model, or its next step, needs it
    remedy: str


class Verified(Spec):
    """What a look at everything found."""

    streams: tuple[str, ...]
    artifacts: int
    megabytes: float
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether all that live models need is intact."""
        return not any(finding.live for finding in self.findings)


def verify(stream: str | None = None) -> Verified:
    """Look at everything that is named, or only at what `stream` names.

    Raises ValueError for a stream that never ran.
    """
    if stream is not None and stream not in known_streams():
        raise ValueError(f"no living stream {stream!r} in this store, known: {', '.join(known_streams()) or 'none'}")
    look = _Look()
    streams = [stream] if stream else known_streams()
    for name in streams:
        look.at_stream(name)
    if stream is None:
        look.at_everything_else(streams)
    look.hash_all()
    megabytes = round(sum(look.sizes.values()) / 1e6, 1)
    return Verified(
        streams=tuple(streams), artifacts=len(look.states), megabytes=megabytes, findings=tuple(look.findings())
    )


class _Look:
    """What is named, by whom, and in which state it was found."""

    def __init__(self):
        self.claims: dict[str, tuple[str, bool]] = {}  # digest -> who needs it first, whether something live does
        self.states: dict[str, State] = {}
        self.sizes: dict[str, int] = {}
        self.others: list[Finding] = []

    def claim(self, digests: Iterable[str], needed_by: str, live: bool = False) -> None:
        """`digests` are named; a live need outweighs the others."""
        for digest in digests:
            if digest not in self.claims or (live and not self.claims[digest][1]):
                self.claims[digest] = (needed_by, live)

    def at_stream(self, stream: str) -> None:
        """What a living stream names, what it needs to live first."""
        try:
            history, finished = promotions.entries(stream), living.finished(stream)
            arrivals, begun = living.arrivals(stream), living.begun(stream)
        except ValueError as error:
            self._tell(f"ledgers of {stream}", "damaged", stream, True, str(error))
            return
        self._check_story(stream, history, finished)
        if history:
            self._at_live(stream, champion(history), finished)
        self.claim((arrival.digest for arrival in arrivals), f"what arrived in {stream}", live=True)
        if begun:
            self.claim([begun.arrival.digest, begun.prepared], f"step {begun.step} of {stream}, which is being made")
        for entry in versions(history):
            self.claim([entry.checkpoint, entry.backbone], f"was live in {stream} (entry {entry.number})")
        self.claim(finished, f"steps of {stream}")
        for name in ("promotions", "living"):
            self._at_ledger(f"{name}-{stream}")

    def at_everything_else(self, streams: Iterable[str]) -> None:
        """Experiments, the other ledgers, and the result records of the cached stages."""
        for name in known_experiments():
            self.claim([pointed_to(name)], f"the report of {name}")
        done = {f"{kind}-{stream}" for stream in streams for kind in ("promotions", "living")}
        for name in ledger.names():
            if name not in done:
                self._at_ledger(name)
        for path in shared_files.below(results_root(), "*-*"):
            self._at_result(path)

    def hash_all(self) -> None:
        """Read whatever is named, and whatever intact documents name in their turn."""
        with ThreadPoolExecutor(READERS) as pool:
            while unread := [digest for digest in self.claims if digest not in self.states]:
                for digest, (state, size, named) in zip(unread, pool.map(_looked_at, unread), strict=True):
                    self.states[digest], self.sizes[digest] = state, size
                    needed_by, live = self.claims[digest]
                    self.claim(named, needed_by, live and _is_backbone(digest))

    def findings(self) -> list[Finding]:
        """What is wrong, what is live first."""
        wrong = [(digest, state) for digest, state in self.states.items() if state != "intact"]
        found = [
            Finding(what=digest, state=state, needed_by=self.claims[digest][0], live=self.claims[digest][1],
                    remedy=self._remedy(digest))
            for digest, state in wrong
        ]  # fmt: skip
        return sorted([*self.others, *found], key=lambda finding: not finding.live)

    def _at_live(self, stream: str, live: Promotion, finished: list[str]) -> None:
        where = f"live in {stream} (entry {live.number})"
        self.claim([live.checkpoint, live.backbone], where, live=True)
        if live.step is None or live.step >= len(finished):
            return
        self.claim([finished[live.step]], where, live=True)
        state, _, _ = _looked_at(finished[live.step])
        if state == "intact":
            self.claim(to_go_on(living.load_step(finished[live.step])), f"the next step of {stream}", live=True)

    def _at_ledger(self, name: str) -> None:
        try:
            entries = ledger.entries(name)
        except ValueError as error:
            self._tell(str(ledger.path_of(name)), "damaged", "whoever reads it", False, str(error))
            return
        self.claim(digests_in(json.dumps(entries)), f"the ledger {name}")

    def _at_result(self, path: Path) -> None:
        data = path.read_bytes()
        try:
            json.loads(json.loads(data)["result"])
        except (ValueError, KeyError, TypeError):
            remedy = "the stage runs again when it is asked for"
            self._tell(str(path), "damaged", f"re-use of {path.name.rpartition('-')[0]}", False, remedy)
        self.claim(digests_in(data.decode(errors="replace")), f"a result of {path.name.rpartition('-')[0]}")

    def _check_story(self, stream: str, history: list[Promotion], finished: list[str]) -> None:
        """The ledger of promotions speaks of steps that are finished, and of what they proposed."""
        done = living.done(stream)
        for number, entry in enumerate(history):
            if why := _contradiction(number, entry, history, [each["candidate"] for each in done]):
                self._tell(f"entry {number} of promotions-{stream}", "contradictory", stream, True,
                           f"{why}: bring both ledgers of the stream back from one backup")  # fmt: skip
        if [entry["step"] for entry in done] != list(range(len(finished))):
            self._tell(f"living-{stream}", "contradictory", stream, True,
                       "its steps are not numbered from 0 on: bring the ledger back from a backup")  # fmt: skip

    def _tell(self, what: str, state: Literal["missing", "damaged", "contradictory"], needed_by: str, live: bool,
              remedy: str) -> None:  # fmt: skip
        self.others.append(Finding(what=what, state=state, needed_by=needed_by, live=live, remedy=remedy))

    def _remedy(self, digest: str) -> str:
        needed_by, live = self.claims[digest]
        if copy := _registered_copy(digest):
            return f"the registry has it: cp {copy} {store.path_of(digest)}"
        made_by = _made_by(digest)
        if not live:
            gone = "if housekeeping let it go, nothing needs it; else " if self.states[digest] == "missing" else ""
            again = f"the stage {made_by} makes it again when a run needs it" if made_by else "bring it from a backup"
            return gone + again
        if needed_by.startswith("live in"):
            return (
                "bring it back from a backup of the store; until then `evergreen rollback` makes an earlier entry "
                "live, if its weights are intact"
            )
        return "bring it back from a backup of the store" + (f" (it was made by {made_by})" if made_by else "")


def _contradiction(number: int, entry: Promotion, history: list[Promotion], candidates: list[str]) -> str | None:
    if entry.number != number:
        return f"it calls itself entry {entry.number}"
    if entry.deed == "rollback":
        if entry.returns_to is None or not 0 <= entry.returns_to < number or history[entry.returns_to].deed == "reject":
            return f"it returns to entry {entry.returns_to}, which made nothing live before it"
        if brought_by(history, entry).checkpoint != entry.checkpoint:
            return f"it returns to entry {entry.returns_to}, whose weights are others"
    elif entry.step is not None and (entry.step >= len(candidates) or candidates[entry.step] != entry.checkpoint):
        return f"its weights are not what step {entry.step} proposed"
    return None


def _looked_at(digest: str) -> tuple[State, int, set[str]]:
    """The state of an artifact, its bytes, and what it names if it is a document."""
    with store.as_stored(digest) as path:
        if path is None:
            return "missing", 0, set()
        with open(path, "rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            file.seek(0)
            named = digests_in(file.read().decode(errors="replace")) if file.read(1) == b"{" else set()
        return ("intact", path.stat().st_size, named) if found == digest else ("damaged", path.stat().st_size, set())


def _is_backbone(digest: str) -> bool:
    return any(origin.get("kind") == "backbone" for origin in store.origins(digest))


def _made_by(digest: str) -> str | None:
    told = (origin.get(word) for origin in store.origins(digest) for word in ("stage", "made_by", "kind"))
    return next((str(name) for name in told if name), None)


def _registered_copy(digest: str) -> Path | None:
    """A file of MLflow with these weights; intact, since a damaged one of the store may be the same file."""
    for facts in (home() / "mlartifacts").glob("**/evergreen.json"):
        weights = facts.with_name("model.safetensors")
        if json.loads(facts.read_text()).get("checkpoint") == digest and weights.is_file():
            with open(weights, "rb") as file:
                if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest:
                    return weights
    return None
