"""The sections of a report on what the run did, from what, and what it cost."""

from html import escape

from models.evaluation import figures_run as figures
from models.evaluation.page_parts import SHOWN_ROWS, Cell, Section, figure, folded, short, table
from models.evaluation.record import ExperimentRecord, UnscoredStep


def training(record: ExperimentRecord) -> Section:
    """Loss and learning rate."""
    rows = [
        [recipe.name, step.step, step.iterations, *_ends(step), f"{step.seconds:.1f}"]
        for recipe in record.recipes
        for step in recipe.trained
    ]
    columns = ["recipe", "step", "iterations", "first loss", "last loss", "highest lr", "seconds"]
    spoken = f"Line charts of loss and learning rate over {len(record.stream)} steps for {len(record.recipes)} recipes."
    caption = f"Averages of at most {figures.CURVE_POINTS} bins per recipe over the whole stream."
    numbers = table(columns, rows, "Training per step", digits=4)
    return Section("Training", figure(figures.curves(record), spoken, caption, numbers))


def samples_seen(record: ExperimentRecord) -> Section:
    """What was drawn from which pool, and what arrived."""
    pools = sorted({pool for recipe in record.recipes for step in recipe.trained for pool in step.draws})
    rows = [
        [recipe.name, step.step, *(step.draws.get(pool, 0) for pool in pools)]
        for recipe in record.recipes
        for step in recipe.trained
    ]
    spoken = f"Stacked bars of the samples drawn from {', '.join(pools)} at every step, one chart per recipe."
    numbers = table(["recipe", "step", *pools], rows, "Samples drawn")
    drawn = figure(figures.consumed_mixture(record), spoken, "", numbers)
    arrived = [[step.name, step.concepts, step.samples, ", ".join(step.datasets)] for step in record.stream]
    stream = table(["step", "concepts", "samples", "datasets"], arrived, "The stream")
    return Section("Samples seen", drawn + folded("What arrived at each step", stream))


def budget(record: ExperimentRecord) -> Section:
    """Compute planned and used."""
    rows = [
        [recipe.name, step.step, step.iterations, step.mafs_planned, step.mafs_used, f"{step.seconds:.1f}"]
        for recipe in record.recipes
        for step in recipe.trained
    ]
    columns = ["recipe", "step", "iterations", "MAFs planned", "MAFs used", "seconds"]
    numbers = table(columns, rows, "Budget per step", digits=4)
    if not figures.has_budget(record):
        said = "<p>No budget in MAFs was set; the iterations per step were given.</p>"
        return Section("Budget", said + folded("Data table", numbers))
    phases = folded("By phase", _ledger(record)) if figures.has_ledger(record) else ""
    spoken = f"Bars of the memory-adjusted FLOPs used at every step with marks for the planned ones, {len(rows)} steps."
    caption = "MAFs: memory-adjusted FLOPs, the unit in which all recipes get the same compute."
    return Section("Budget", figure(figures.budget(record), spoken, caption, numbers) + phases)


def stages(record: ExperimentRecord) -> Section:
    """What was executed and what was re-used, when and why."""
    names = list(dict.fromkeys(stage.stage for stage in record.stages))
    groups = [[stage for stage in record.stages if stage.stage == name] for name in names]
    rows = [
        [name, sum(not s.reused for s in group), sum(s.reused for s in group), f"{sum(s.seconds for s in group):.1f}"]
        for name, group in zip(names, groups, strict=True)
    ]
    every = [
        [stage.stage, stage.label, "re-used" if stage.reused else "executed", stage.reason, f"{stage.seconds:.1f}"]
        for stage in record.stages
    ]
    detail = table(["stage", "of", "work", "reason", "seconds"], every, "Every stage")
    kinds = table(["stage", "executed", "re-used", "seconds"], rows, "Stages by kind")
    return Section("Stages", _timeline(record, kinds) + folded("Every stage with its reason", detail))


def lineage(record: ExperimentRecord) -> Section:
    """From which data and weights each checkpoint came."""
    rows: list[list[Cell]] = [
        [recipe.name, step.step, *(short(d) for d in (step.step_plan, step.expert, step.deployed))]
        for recipe in record.recipes
        for step in recipe.trained
    ]
    weights = table(["recipe", "step", "step data", "expert", "deployed"], rows, "Weights of every step")
    weights = folded("Weights of every step", weights) if len(rows) > SHOWN_ROWS else weights
    said = f"<p>All recipes start from the pretrained weights <code>{short(record.pretrained)}</code>.</p>"
    sets = [[s.name, s.kind, s.samples, short(s.digest), short(s.texts)] for s in record.eval_sets]
    scored = table(["set", "kind", "images", "image table", "texts"], sets, "Evaluation sets") if sets else ""
    return Section("Lineage", said + weights + (folded("What checkpoints were scored on", scored) if scored else ""))


def configuration(record: ExperimentRecord) -> Section:
    """The recipes in words and the whole configuration as it was resolved."""
    said = "".join(f"<dt>{escape(r.name)}</dt><dd>{escape(r.description)}</dd>" for r in record.recipes)
    text = f'<pre tabindex="0" role="region" aria-label="Configuration">{escape(record.config)}</pre>'
    return Section("Recipes and configuration", f"<dl>{said}</dl>{text}")


def _ends(step: UnscoredStep) -> list[Cell]:
    rows = figures.curve_rows([step], points=50)
    return [rows[0]["loss"], rows[-1]["loss"], f"{max(row['lr'] for row in rows):.2e}"] if rows else [None] * 3


def _ledger(record: ExperimentRecord) -> str:
    """Planned and used compute of every phase over the whole stream; merging is priced but not charged."""
    rows = []
    for recipe in record.recipes:
        entries = [entry for step in recipe.trained for entry in step.ledger]
        for phase in dict.fromkeys(entry.phase for entry in entries):
            own = [entry for entry in entries if entry.phase == phase]
            sums = [sum(getattr(entry, name) for entry in own) for name in ("planned_mafs", "used_mafs", "gflops")]
            rows.append([recipe.name, phase, *sums])
    return table(["recipe", "phase", "MAFs planned", "MAFs used", "GFLOPs"], rows, "Budget by phase", digits=4)


def _timeline(record: ExperimentRecord, kinds: str) -> str:
    if not figures.has_timeline(record):
        return kinds
    reused = sum(stage.reused for stage in record.stages)
    spoken = (
        f"Timeline of {len(record.stages)} stages by kind: {len(record.stages) - reused} executed, {reused} re-used; "
        "table below."
    )
    caption = "Bars: stages whose work was done. Hollow diamonds: stages whose result was known and re-used."
    return figure(figures.timeline(record), spoken, caption, kinds, is_open=True)
