"""What a living stream shows after every run: its record, its pages and tables; views that can be made again."""

from data_catalog import promotions
from models import living
from models.evaluation.record import ExperimentRecord, RecipeRecord, StageRecord, store_record
from models.living import LivingStep
from tasks.caching import uncached
from tasks.registry import keep_up


@uncached(label="show {stream}")
def show_living(stream: str, recipe: str, config: str, seed: int, stages: list[StageRecord]) -> None:
    """Store the record of all steps so far, under which reports and lineage find them, and register promotions."""
    steps = [living.load_step(digest) for digest in living.finished(stream)]
    if steps:
        store_record(record_of(stream, recipe, config, seed, steps, stages))
    keep_up(stream)


def record_of(
    stream: str, recipe: str, config: str, seed: int, steps: list[LivingStep], stages: list[StageRecord]
) -> ExperimentRecord:
    """The steps so far as those of a stream with an end: one recipe, each step with the weights it proposed."""
    last = steps[-1]
    begun = promotions.entries(stream)[0]
    life = RecipeRecord(name=recipe, description="what each step proposed", steps=[step.record for step in steps])
    return ExperimentRecord(
        name=stream, seed=seed, config=config, adaptation=last.adaptation, retention=last.retention, groups=last.groups,
        zero_shot=last.first, zero_shot_summary=last.first_summary, pretrained=begun.checkpoint, recipes=(life,),
        stream=last.plan.steps, stages=tuple(stages), eval_sets=last.eval_sets,
    )  # fmt: skip
