"""Deletes what nothing needs any more: weights, plans and caches that a rule of retention lets go.

With the store to itself it deletes at once. Beside runs it moves artifacts to the trash, from which a run takes back
what it asks for, and leaves caches that are no artifacts alone. Whatever goes is a cache miss later.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from data_catalog import in_use, presence, remote_store, shared_files, store, trash
from data_catalog.file_stats import FileStat
from data_catalog.outage import Outage
from data_catalog.places import decoded_root, results_root, store_root, store_url
from data_catalog.refs import Spec, digests_in
from data_catalog.retention import KeepSpec
from data_catalog.store_files import make_folder
from models.needs import WEIGHTS, Needs, kinds, result_files

LITTER_SECONDS = 86400.0  # temporary files that no process can still be writing


class Going(Spec):
    """Something that goes, or would."""

    name: str  # digest, or path below the store
    what: str
    size: int  # bytes that are free without it
    why: str


class Staying(Spec):
    """Artifacts that stay for one reason."""

    why: str
    count: int
    size: int


class Housekeeping(Spec):
    """What a housekeeping found, and did unless it was dry."""

    dry_run: bool
    beside_runs: bool  # some were at work: artifacts went to the trash
    going: tuple[Going, ...]
    staying: tuple[Staying, ...]
    reasons: dict[str, str]  # digest -> why it stays
    freed: int  # bytes
    in_trash: int  # bytes that are free once the runs of now have ended and housekeeping comes again


def keep_house(policies: dict[str, KeepSpec], dry_run: bool = False) -> Housekeeping:
    """Delete what the living streams in `policies` let go, and caches of the store that were long not used.

    Streams that are not named keep everything, as experiments do. `dry_run`: only say what would go. Raises ValueError
    while another housekeeping is at work, MissingArtifact if records that tell what is needed are gone; Outage if runs
    are at work on a store in object storage, which has no trash for them.
    """
    make_folder(store_root())
    with (
        in_use.sole_housekeeping(),
        in_use.alone() as alone,
        presence.sole_housekeeping() as elsewhere,
        remote_store.listed_once(),
    ):
        _require_peace(alone and not elsewhere, elsewhere, dry_run)
        done_with = [batch for batch in trash.batches() if alone or in_use.has_ended_before(batch)]
        needs = Needs(policies)  # after that: what runs that have ended name is told by now
        going, staying = _judged(needs)
        unused = list(_unused(needs, max((p.state_days for p in policies.values()), default=KeepSpec().state_days)))
        freed = 0
        if not dry_run:
            _take_back(needs)
            freed = _carry_out(going, unused, done_with, alone)
        shown = [*going, *(item for item, _ in unused)] if alone or dry_run else going
        return Housekeeping(
            dry_run=dry_run, beside_runs=not alone, going=tuple(shown), staying=_counted(staying), reasons=staying,
            freed=freed, in_trash=sum(path.stat().st_size for n in trash.batches() for path in trash.contents(n)),
        )  # fmt: skip


def _require_peace(alone: bool, elsewhere: list[str], dry_run: bool) -> None:
    if store_url() is not None and not alone and not dry_run:
        raise Outage(
            f"runs are at work on {store_url()}: {', '.join(elsewhere) or 'on this machine'}; run `evergreen gc` again "
            "when they have ended (one that was killed counts as ended after 15 minutes), or with --dry-run now"
        )


def _judged(needs: Needs) -> tuple[list[Going], dict[str, str]]:
    """The artifacts that go, the largest first, and digest -> reason of those that stay."""
    going, staying, now, superseded = [], {}, needs.now, _superseded_reports(needs)
    for digest in store.stored_digests():
        if digest in needs.why:
            staying[digest] = needs.why[digest]
            continue
        if (stat := store.stat_of(digest)) is not None:
            why = needs.let_go.get(digest) or superseded.get(digest)
            if stat.links > 1:
                staying[digest] = "files outside of the store that share their bytes, such as MLflow's"
            elif why is None and needs.is_young(now - stat.modified):
                staying[digest] = f"made in the last {needs.cache_days:g} days"
            else:
                why = why or f"named by nothing, and older than {needs.cache_days:g} days"
                what = ", ".join(sorted(kinds(digest))) or "file"
                going.append(Going(name=digest, what=what, size=stat.size, why=why))
    return sorted(going, key=lambda item: (-item.size, item.name)), staying


def _superseded_reports(needs: Needs) -> dict[str, str]:
    """Earlier versions of the reports of the streams asked about, as far as their rule lets them go."""
    found: dict[str, list[tuple[float, str]]] = {}
    for digest in store.stored_digests():
        if digest in needs.why or _size_of(digest) > 1 << 28:
            continue
        for origin in store.origins(digest):
            if origin.get("kind") == "experiment record" and origin.get("name") in needs.policies:
                found.setdefault(origin["name"], []).append((origin["recorded_at"], digest))
    gone = {}
    for name, versions in found.items():
        rule = needs.policies[name].reports
        for rank, (at, digest) in enumerate(sorted(versions, reverse=True), start=1):  # the one that holds is newer
            if not rule.keeps(rank, needs.now - at):
                gone[digest] = f"a version of the report of {name} that was replaced: {rule.spoken()}"
    return gone


def _take_back(needs: Needs) -> None:
    """Bring back from the trash what is needed after all: a run that has ended since may have named it."""
    for batch in trash.batches():
        for path in trash.contents(batch):
            if (digest := f"sha256:{path.name}") in needs.why:
                trash.restore(store.path_of(digest))


def _carry_out(going: list[Going], unused: list[tuple[Going, Callable]], done_with: list[int], alone: bool) -> int:
    """Delete, or move to the trash; the bytes that are free now."""
    freed = sum(trash.empty(batch) for batch in done_with)
    if not alone:
        batch = in_use.next_batch()
        for item in going:
            trash.throw(store.path_of(item.name), batch)
        in_use.close_batch(batch)
        return freed
    without_manifests = [
        item.name for item in going if WEIGHTS not in item.what
    ]  # those that descend are asked of them
    if (there := remote_store.storage()) is not None:
        remote_store.delete(there, [item.name for item in going], without_manifests)
    for item in going:
        store.path_of(item.name).unlink(missing_ok=True)
    for digest in without_manifests:
        shutil.rmtree(store.manifests_of(digest), ignore_errors=True)
    for _, remove in unused:
        remove()
    _forget_results()
    return freed + sum(item.size for item in (*going, *(item for item, _ in unused)))


def _unused(needs: Needs, state_days: float) -> Iterator[tuple[Going, Callable[[], object]]]:
    """Caches that are no artifacts, and how to delete each."""
    root, now = store_root(), needs.now

    def told(path: Path, what: str, why: str) -> tuple[Going, Callable[[], object]]:
        size = _size(path)
        remove = (lambda: shutil.rmtree(path, ignore_errors=True)) if path.is_dir() else path.unlink
        return Going(name=str(path), what=what, size=size, why=why), remove

    for folder in sorted((root / "unfinished").glob("*/")):
        if (days := (now - _last_change(folder)) / 86400) > state_days:
            yield told(folder, "unfinished update", f"nobody has gone on with it for {days:.0f} days")
    yield from _unused_states_there(now, state_days)
    if (decoded := decoded_root()) is not None:
        for folder in sorted(decoded.glob("*-*-*/")):
            if not needs.is_young(now - _last_change(folder)):
                yield told(folder, "decoded images", f"not used for {needs.cache_days:g} days")
    for path in sorted([*root.rglob(".*"), *results_root().glob(".*")]):
        if path.is_file() and now - path.stat().st_mtime > LITTER_SECONDS:
            yield told(path, "half-written file", "its writer was killed")


def _unused_states_there(now: float, state_days: float) -> Iterator[tuple[Going, Callable[[], object]]]:
    """States of updates in object storage that nobody has gone on with."""
    if (there := remote_store.storage()) is None:
        return
    updates: dict[str, dict[str, FileStat]] = {}
    for key, stat in there.below("unfinished").items():
        updates.setdefault(key.rpartition("/")[0], {})[key] = stat
    for folder, states in updates.items():
        if (days := (now - max(stat.changed_ns or 0 for stat in states.values()) / 1e9) / 86400) > state_days:
            why, size = f"nobody has gone on with it for {days:.0f} days", sum(stat.size for stat in states.values())
            going = Going(name=f"{there.url}/{folder}", what="unfinished update", size=size, why=why)
            yield going, partial(there.delete, list(states))


def _forget_results() -> None:
    """Delete result records and kept facts that name what is gone, and locks without a record: misses, all of them."""
    files = result_files()
    gone = {digest for digest in set().union(*map(_must_be_there, files)) if store.stat_of(digest) is None}
    shared_files.delete([path for path in files if gone & _must_be_there(path)])
    for lock in (results_root() / "locks").glob("*.lock"):
        if not (results_root() / lock.stem).exists():
            lock.unlink()


def _must_be_there(path: Path) -> set[str]:
    """Without these a record is a miss; facts name in their keys what they follow from."""
    text = path.read_text()
    if path.parent.parent.parent != store_root():
        return digests_in(text)
    return digests_in(json.dumps(json.loads(text).get("fact")))


def _counted(staying: dict[str, str]) -> tuple[Staying, ...]:
    sums: dict[str, list[int]] = {}
    for digest, why in staying.items():
        if (found := store.stat_of(digest)) is not None:
            count = sums.setdefault(why, [0, 0])
            count[0] += 1
            count[1] += found.size
    groups = [Staying(why=why, count=count, size=size) for why, (count, size) in sums.items()]
    return tuple(sorted(groups, key=lambda group: -group.size))


def _size_of(digest: str) -> int:
    found = store.stat_of(digest)
    return found.size if found else 0


def _last_change(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.iterdir()), default=folder.stat().st_mtime)


def _size(path: Path) -> int:
    paths = [path] if path.is_file() else [Path(at) / name for at, _, names in os.walk(path) for name in names]
    return sum(file.stat().st_size for file in paths)
