"""The merges of a stream: what an update starts from, what enters the running merge, what is deployed."""

from data_catalog.seeds import seed_of
from data_catalog.stream import StepPlan
from models.checkpoints import CheckpointRef
from models.merging.statistics import StatisticsRef, what_measures
from models.merging.temporal import Anchor, History, MergeSpec, pair
from models.updates import UpdateSpec
from tasks.merge import merge_weights
from tasks.statistics import collect_statistics, combine_statistics


def picked(history: History, spec: MergeSpec, anchor: Anchor, seed: int, recipe: str, step: int) -> CheckpointRef:
    """The weights an anchor stands for, merged where it names several; the same for deploy and the next init."""
    members = history.members(anchor, spec.includes_zs(anchor))
    if len(members) == 1:
        return members[0]
    if anchor == "all":
        return _merged(history, spec, list(members), -1, seed, recipe, step)
    picks, newest = pair(spec.technique, expert=members[1], old=members[0])
    return _merged(history, spec, picks, newest, seed, recipe, step)


def advanced(
    history: History,
    spec: MergeSpec,
    expert: CheckpointRef,
    seed: int,
    recipe: str,
    step: int,
    statistics: StatisticsRef | None = None,
) -> History:
    """The history after an update; the running merge is computed only for recipes that read it.

    `statistics`: of the expert, for techniques that use them; those of the running merge are made of them.
    """
    after = history.with_statistics(statistics).with_expert(expert)
    if not spec.needs_running:
        return after
    old = history.before(spec.includes_zs("ema"))
    if old is None:
        return after.with_running(expert)
    picks, newest = pair(spec.technique, expert, old)
    running = _merged(after, spec, picks, newest, seed, recipe, step)
    if spec.technique.USES_STATISTICS:
        of_both = [after.statistics[pick.digest] for pick in picks]
        after = after.with_statistics(combine_statistics(of_both, running, None, recipe, step))
    return after.with_running(running)


def measured(
    spec: MergeSpec, update: UpdateSpec, expert: CheckpointRef, data: StepPlan, seed: int, recipe: str
) -> StatisticsRef | None:
    """The statistics of an expert on the data of its step, where the technique uses some."""
    if (kind := spec.technique.USES_STATISTICS) is None:
        return None
    return collect_statistics(kind, expert, data, what_measures(update), spec.statistics_samples, seed, recipe)


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
    uses = spec.technique.USES_STATISTICS is not None
    known = [history.statistics[pick.digest].digest for pick in picks] if uses else None
    return merge_weights(history.pretrained, picks, spec.technique, recipe, step, drawn, newest, known)
