"""The merges of a stream: what an update starts from, what enters the running merge, what is deployed."""

from data_catalog.seeds import seed_of
from models.checkpoints import CheckpointRef
from models.merging.temporal import Anchor, History, MergeSpec, pair
from tasks.merge import merge_weights


def picked(history: History, spec: MergeSpec, anchor: Anchor, seed: int, recipe: str, step: int) -> CheckpointRef:
    """The weights an anchor stands for, merged where it names several; the same for deploy and the next init."""
    members = history.members(anchor, spec.includes_zs(anchor))
    if len(members) == 1:
        return members[0]
    if anchor == "all":
        return _merged(history, spec, list(members), -1, seed, recipe, step)
    picks, newest = pair(spec.technique, expert=members[1], old=members[0])
    return _merged(history, spec, picks, newest, seed, recipe, step)


def advanced(history: History, spec: MergeSpec, expert: CheckpointRef, seed: int, recipe: str, step: int) -> History:
    """The history after an update; the running merge is computed only for recipes that read it."""
    after = history.with_expert(expert)
    if not spec.needs_running:
        return after
    old = history.before(spec.includes_zs("ema"))
    if old is None:
        return history.with_expert(expert, running=expert)
    picks, newest = pair(spec.technique, expert, old)
    return history.with_expert(expert, running=_merged(after, spec, picks, newest, seed, recipe, step))


def merged_per_step(spec: MergeSpec, history: History) -> int:
    """How many checkpoints entered the merges of the step that `history` ends with."""
    count = 2 if spec.needs_running and (spec.includes_zs("ema") or len(history.experts) > 1) else 0
    for anchor in {spec.init, spec.deploy} - {"ema"}:
        members = len(history.members(anchor, spec.includes_zs(anchor)))
        count += members if members > 1 else 0
    return count


def _merged(
    history: History, spec: MergeSpec, picks: list[CheckpointRef], newest: int, seed: int, recipe: str, step: int
) -> CheckpointRef:
    """A merge of the step that `history` ends with; what is drawn depends on seed and step alone."""
    drawn = seed_of(seed, "merge", len(history.experts)) if spec.technique.USES_RANDOM else 0
    return merge_weights(history.pretrained, picks, spec.technique, recipe, step, drawn, newest)
