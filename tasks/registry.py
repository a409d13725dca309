"""The registered model of a living stream in MLflow: a version per promotion, and `champion` on what is live.

A view of the ledger `promotions-<stream>`, made again by one call whatever was killed or lost: what is missing is
added, what the ledger does not know is marked and no alias points to it. Nothing reads it to decide.
"""

import json
import tempfile
from pathlib import Path

from prefect import get_run_logger

from data_catalog import promotions, store
from data_catalog.places import store_root
from data_catalog.promotions import Promotion
from data_catalog.refs import Spec
from models import exporting, living
from models.checkpoints import CheckpointRef
from models.evaluation.scores import primary
from models.living import LivingStep
from models.model_card import model_card
from models.versions import ancestors, champion, versions
from tasks.caching import uncached
from tasks.tracking import MLflowFailed, Tracker, costs_of, curve_points, folder_of, key_of, open_tracker, rows_of

CHAMPION = "champion"
ENTRY, DIGEST, UNKNOWN = "evergreen.entry", "sha256", "evergreen.not_in_ledger"
WEIGHTS, FACTS = "model.safetensors", "evergreen.json"


class Registered(Spec):
    """What the registry holds of a stream after it was made to agree with the ledger."""

    stream: str
    versions: dict[int, int]  # number of the entry -> version in MLflow
    champion: int  # version
    added: tuple[int, ...] = ()  # versions
    repaired: tuple[int, ...] = ()  # versions whose files were gone or damaged
    unknown: tuple[int, ...] = ()  # versions that the ledger does not know
    gone: tuple[int, ...] = ()  # entries without a version, since the store has let their weights go


@uncached(label="registry {stream}")
def register(stream: str) -> None:
    """A task of `keep_up`, for flows that only decide."""
    keep_up(stream)


def keep_up(stream: str) -> None:
    """Register what was promoted since; an MLflow that does not answer is said in the log and stops nothing."""
    log, history = get_run_logger(), promotions.entries(stream)
    if not history or is_up_to_date(stream, history):
        return
    try:
        done = agree(stream, look_at_files=False)
    except MLflowFailed as failure:
        log.warning("the registry is behind: %s", failure)
        return
    log.info("%s: version %d is %s in MLflow", stream, done.champion, CHAMPION)


def agree(stream: str, look_at_files: bool = True) -> Registered:
    """Make the registered model of `stream` say what the ledger says; `look_at_files`: of every version, read whole.

    Raises ValueError for a stream that never ran, MissingArtifact if the store lacks what is live, MLflowFailed.
    """
    history = promotions.entries(stream)
    live_weights = living.live_of(stream, history).checkpoint
    with open_tracker(stream) as tracker:
        client = tracker.client
        if not client.search_registered_models(f"name = '{stream}'"):
            client.create_registered_model(stream, description=_description(stream))
        known, unknown = _known(client, stream, history)
        added, repaired, gone = [], [], []
        for entry in versions(history):
            if entry.checkpoint != live_weights and _is_gone(entry):
                gone += [] if entry.number in known else [entry.number]
            elif entry.number not in known:
                known[entry.number] = _add(tracker, stream, history, entry)
                added.append(known[entry.number])
            elif look_at_files and _repair(tracker, stream, history, entry, known[entry.number]):
                repaired.append(known[entry.number])
        live = known[champion(history).number]
        _point(client, stream, live)
    return Registered(stream=stream, versions=known, champion=live, added=tuple(added), repaired=tuple(repaired),
                      unknown=tuple(unknown), gone=tuple(gone))  # fmt: skip


def is_up_to_date(stream: str, history: list[Promotion]) -> bool:
    """Whether the local database says what the ledger says; no file of a version is read."""
    known = {(str(entry.number), entry.checkpoint) for entry in versions(history)}
    wanted = {(str(entry.number), entry.checkpoint) for entry in versions(history) if not _is_gone(entry)}
    found, live = rows_of((_TAGGED, (ENTRY, DIGEST, stream)), (_CHAMPION, (ENTRY, stream, CHAMPION)))
    return wanted <= set(found) <= known and live == [(str(champion(history).number),)]


_TAGGED = (
    "SELECT e.value, d.value FROM model_versions v JOIN model_version_tags e USING (name, version) "
    "JOIN model_version_tags d USING (name, version) WHERE e.key = ? AND d.key = ? AND v.name = ? "
    "AND v.current_stage != 'Deleted_Internal'"
)
_CHAMPION = (
    "SELECT e.value FROM registered_model_aliases a JOIN model_version_tags e USING (name, version) "
    "WHERE e.key = ? AND a.name = ? AND a.alias = ?"
)


def _known(client, stream: str, history: list[Promotion]) -> tuple[dict[int, int], list[int]]:
    """The version of each entry, and those that the ledger does not know, which are marked; twins are deleted."""
    wanted = {entry.number: entry.checkpoint for entry in versions(history)}
    known: dict[int, int] = {}
    unknown = []
    for found in sorted(client.search_model_versions(f"name = '{stream}'"), key=lambda found: int(found.version)):
        entry, number = found.tags.get(ENTRY), int(found.version)
        if entry is None:  # somebody else's
            continue
        if wanted.get(int(entry)) != found.tags.get(DIGEST):
            client.set_model_version_tag(stream, found.version, UNKNOWN, "the ledger has no such entry")
            unknown.append(number)
        elif int(entry) in known:  # two processes on one server
            client.delete_model_version(stream, found.version)
        else:
            known[int(entry)] = number
    return known, unknown


def _add(tracker: Tracker, stream: str, history: list[Promotion], entry: Promotion) -> int:
    step = living.behind(stream, entry)
    key = key_of("version", stream, entry.number, entry.checkpoint)
    if not tracker.finished(key):
        _log_model(tracker, stream, history, entry, step, key)
    (run,) = (run.info.run_id for run in tracker.find(key)[:1])
    (model,) = tracker.client.search_logged_models([tracker.experiment_id], f"source_run_id = '{run}'")[:1]
    made = tracker.client.create_model_version(
        stream, source=f"models:/{model.model_id}", run_id=run, tags=_tags(stream, entry),
        description=_in_short(entry, step), model_id=model.model_id,
    )  # fmt: skip
    return int(made.version)


def _log_model(tracker: Tracker, stream: str, history: list[Promotion], entry: Promotion, step: LivingStep | None,
               key: str) -> None:  # fmt: skip
    """A complete run with the scores, and a LoggedModel with the files, of one version."""
    run = tracker.create(f"version of entry {entry.number}", key, _tags(stream, entry))
    name = f"{entry.checkpoint[7:19]}-entry{entry.number:03d}"
    model = tracker.client.create_logged_model(
        tracker.experiment_id, name=name, source_run_id=run, tags=_tags(stream, entry)
    )
    _place(tracker, model, stream, history, entry, step)
    tracker.client.finalize_logged_model(model.model_id, "READY")
    if step is not None:
        means = step.record.summary.model_dump(exclude={"step"})
        tracker.log(run, means | primary(step.record.scores), step.step, model.model_id)
        tracker.log(run, costs_of(step.record), step.step)
        tracker.log_points(run, curve_points(step.record.curves) if store.is_intact(step.record.curves) else [])
    tracker.finish(run)


def _place(
    tracker: Tracker, model, stream: str, history: list[Promotion], entry: Promotion, step: LivingStep | None
) -> None:
    """Write the files of a version: into the folder of MLflow, the weights linked, or sent to its server."""
    if (local := folder_of(model)) is not None:
        write_version(stream, history, entry, step, local)
        return
    with tempfile.TemporaryDirectory(dir=store_root()) as scratch:
        write_version(stream, history, entry, step, Path(scratch))
        tracker.client.log_model_artifacts(model.model_id, scratch)


def write_version(
    stream: str, history: list[Promotion], entry: Promotion, step: LivingStep | None, folder: Path
) -> None:
    """Write what a version consists of: weights, configuration of the model, tokenizer, card, experiment file."""
    checkpoint = CheckpointRef(digest=entry.checkpoint, backbone=entry.backbone)
    exporting.write_open_clip(checkpoint, folder, link=True, weights=WEIGHTS)
    about = exporting.summary(entry.backbone)
    facts = {"stream": stream, "entry": entry.number, "step": entry.step, "checkpoint": entry.checkpoint,
             "backbone": entry.backbone, **about}  # fmt: skip
    (folder / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
    card = model_card(stream, entry, step, ancestors(stream, history, entry), about)
    (folder / exporting.CARD).write_text(card)
    if step is not None:
        (folder / "config.yaml").write_bytes(store.read_bytes(step.config))


def _repair(tracker: Tracker, stream: str, history: list[Promotion], entry: Promotion, version: int) -> bool:
    """Write the files of a version anew if its weights are gone or damaged; True if they were. Of a server: trusted."""
    source = tracker.client.get_model_version(stream, str(version)).source
    model = tracker.client.get_logged_model(source.removeprefix("models:/"))
    folder = folder_of(model)
    if folder is None or _is_whole(folder, entry):
        return False
    write_version(stream, history, entry, living.behind(stream, entry), folder)
    return True


def _is_whole(folder: Path, entry: Promotion) -> bool:
    weights = folder / WEIGHTS
    others = [folder / exporting.CARD, folder / FACTS, folder / "open_clip_config.json"]
    return weights.is_file() and store.digest_of_file(weights) == entry.checkpoint and all(f.is_file() for f in others)


def _is_gone(entry: Promotion) -> bool:
    """Whether housekeeping let the weights of a version go, which a registry made before still has."""
    return store.stat_of(entry.checkpoint) is None


def _point(client, stream: str, version: int) -> None:
    aliases = client.get_registered_model(stream).aliases
    if str(aliases.get(CHAMPION)) != str(version):
        client.set_registered_model_alias(stream, CHAMPION, str(version))


def _tags(stream: str, entry: Promotion) -> dict[str, str]:
    told = {ENTRY: entry.number, DIGEST: entry.checkpoint, "step": entry.step, "deed": entry.deed, "by": entry.by,
            "evergreen.stream": stream, "verdict": entry.verdict}  # fmt: skip
    return {name: str(value) for name, value in told.items() if value is not None}


def _in_short(entry: Promotion, step: LivingStep | None) -> str:
    """At most what MLflow's databases keep."""
    about = promotions.weights_in_words(entry.step) + (f", by {entry.by}: {entry.reason}" if step else "")
    means = "" if step is None else "; " + ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in step.record.summary.model_dump(exclude={"step"}).items()
    )  # fmt: skip
    return (about + means)[:4000]


def _description(stream: str) -> str:
    return (
        f"The living stream {stream}: a version per promotion; `{CHAMPION}` is live. The ledger of the stream decides, "
        f"and `evergreen registry {stream}` makes this agree with it."
    )
