"""The report of an experiment as one HTML file that opens from disk and loads nothing."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from data_catalog import places
from data_catalog.store_files import write_atomically
from models.evaluation import figures
from models.evaluation.record import ExperimentRecord, RecipeRecord, StepRecord, run_name
from models.evaluation.report import best_recipe, forgetting, merge_rows, score_rows, verdict
from models.evaluation.scores import evaluation_rows, primary

Cell = str | int | float | None
SUMMARY = ("recipe", "step", "KA", "ZS", "GM")
SHOWN_ROWS = 20  # a longer table of all steps starts folded


def render(record: ExperimentRecord) -> str:
    """The whole page; raises MissingArtifact if the curves of a step are gone from the store."""
    return Template(_asset("html")).substitute(
        title=escape(record.name),
        style=_asset("css"),
        script=_asset("js"),
        plotly=get_plotlyjs(),
        facts=_facts(record),
        verdict="".join(f"<li>{escape(sentence)}</li>" for sentence in verdict(record)),
        sections="\n".join(_sections(record)),
    )


def write(record: ExperimentRecord) -> Path:
    """Write the page into the `reports` of the home, in place of an earlier one, and return its path."""
    path = places.home() / "reports" / f"{run_name(record.name, record.seed)}.html"
    write_atomically(path, render(record).encode())
    return path


def _sections(record: ExperimentRecord) -> list[str]:
    return [
        _section("Learned and kept", _final_scores(record), _trajectory(record)),
        *([_section("What the merge weight trades", _merge_tradeoff(record))] if merge_rows(record) else []),
        _section("Every dataset, step by step", *(_heat_map(record, recipe) for recipe in record.recipes)),
        *([_section("On clean images alone", clean)] if (clean := _clean(record)) else []),
        _section("Forgotten", _forgotten(record)),
        _section("Training", _curves(record)),
        _section("Samples seen", _mixture(record), _stream(record)),
        _section("Budget", _budget(record)),
        _section("Stages", _stages(record)),
        _section("Lineage", _lineage(record)),
        _section("Recipes and configuration", _recipes(record), f"<pre tabindex=0>{escape(record.config)}</pre>"),
    ]


def _facts(record: ExperimentRecord) -> str:
    reused = sum(stage.reused for stage in record.stages)
    facts = {
        "steps": len(record.stream),
        "recipes": len(record.recipes),
        "adaptation sets": len(record.adaptation),
        "held-out sets": len(record.retention),
        "stages re-used": f"{reused} of {len(record.stages)}",
        "seed": record.seed,
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())


def _trajectory(record: ExperimentRecord) -> str:
    ends = "; ".join(
        f"{recipe.name} ends at {recipe.steps[-1].summary.knowledge_accumulation:.3f}, "
        f"{recipe.steps[-1].summary.zero_shot_retention:.3f}"
        for recipe in record.recipes
    )
    start = record.zero_shot_summary
    spoken = (
        f"Line chart of knowledge accumulation against zero-shot retention, from the zero-shot point "
        f"{start.knowledge_accumulation:.3f}, {start.zero_shot_retention:.3f}: {ends}. "
        f"Best: {best_recipe(record).name}."
    )
    caption = "Further right is more learned from the stream, further up is more kept of what was known before."
    rows = _summary_rows(record)
    table = _table(SUMMARY, rows, "Summaries per recipe and step")
    return _figure(figures.trajectory(record), spoken, caption, table, is_open=len(rows) <= SHOWN_ROWS)


def _merge_tradeoff(record: ExperimentRecord) -> str:
    rows = [list(row.values()) for row in merge_rows(record)]
    spoken = f"Line chart of retention against accumulation for {len(rows)} weights of the last merge; table below."
    caption = (
        "The last merge, tried with other weights on the past (the labels): 0 is the last expert alone, "
        "1 the running merge before it. More past means less of the last step."
    )
    table = _table(["recipe", "weight on the past", "KA", "ZS", "GM"], rows, "The last merge by weight")
    return _figure(figures.merge_tradeoff(record), spoken, caption, table, is_open=True)


def _final_scores(record: ExperimentRecord) -> str:
    rows = _summary_rows(record)
    ends = [row for row, after in zip(rows, [*rows[1:], [None]], strict=True) if row[0] != after[0]]  # last of each
    return _table(SUMMARY, ends, "Summaries after the last step") + f'<p class="note">{_words(record)}</p>'


def _summary_rows(record: ExperimentRecord) -> list[list[Cell]]:
    rows = [list(row.values()) for row in score_rows(record)]
    return [[name, "start" if step == -1 else step, *values] for name, step, *values in rows]


def _words(record: ExperimentRecord) -> str:
    return (
        f"KA, knowledge accumulation: mean score over the {len(record.adaptation)} sets of the stream. "
        f"ZS, zero-shot retention: mean over the {len(record.retention)} held-out sets. GM: their geometric mean. "
        "Scores are top-1 accuracy, for retrieval recall@5, from 0 to 1."
    )


def _heat_map(record: ExperimentRecord, recipe: RecipeRecord) -> str:
    reports = [primary(record.zero_shot), *(primary(step.scores) for step in recipe.steps)]
    columns = ["dataset", "role", "start", *(f"step {step.step}" for step in recipe.steps)]
    rows = [[name, role, *(scores[name] for scores in reports)] for name, role in _roles(record)]
    spoken = (
        f"Heat map of the scores of {len(rows)} datasets over {len(recipe.steps)} steps of {recipe.name}; table below."
    )
    figure = figures.heat_map(record, recipe)
    return f"<h3>{escape(recipe.name)}</h3>" + _figure(
        figure, spoken, "", _table(columns, rows, f"Scores of {recipe.name}")
    )


def _clean(record: ExperimentRecord) -> str:
    """Scores after the last step beside those on images without a twin in training; empty if none were looked for."""
    last = {"zero-shot": record.zero_shot} | {recipe.name: recipe.steps[-1].scores for recipe in record.recipes}
    scored = {name: [row for row in evaluation_rows(report) if "clean" in row] for name, report in last.items()}
    names = ("dataset", "metric", "samples", "value", "clean_samples", "clean")
    rows = [[name, *(row[key] for key in names)] for name, table in scored.items() for row in table]
    columns = ["recipe", "dataset", "metric", "images", "score", "clean images", "score on them"]
    note = '<p class="note">Clean: no image of the stream or the pretraining pool shows the same picture.</p>'
    table = _table(columns, rows, "Scores on all and on clean images")
    return note + _folded("Data table", table, is_open=len(rows) <= SHOWN_ROWS) if rows else ""


def _forgotten(record: ExperimentRecord) -> str:
    lost = [forgetting(record, recipe) for recipe in record.recipes]
    rows = [[name, role, *(scores[name] for scores in lost)] for name, role in _roles(record)]
    columns = ["dataset", "role", *(recipe.name for recipe in record.recipes)]
    means = ", ".join(
        f"{recipe.name} {sum(scores.values()) / len(scores):.3f}"
        for recipe, scores in zip(record.recipes, lost, strict=True)
    )
    spoken = f"Heat map of what each recipe forgot on {len(rows)} datasets; mean per recipe: {means}."
    caption = f"Best score so far minus the score after the last step; 0 is nothing forgotten. Mean: {means}."
    return _figure(
        figures.forgotten(record), spoken, caption, _table(columns, rows, "Forgetting per dataset and recipe")
    )


def _curves(record: ExperimentRecord) -> str:
    rows = [
        [recipe.name, step.step, step.iterations, *_ends(recipe, step), f"{step.seconds:.1f}"]
        for recipe in record.recipes
        for step in recipe.steps
    ]
    columns = ["recipe", "step", "iterations", "first loss", "last loss", "highest lr", "seconds"]
    spoken = f"Line charts of loss and learning rate over {len(record.stream)} steps for {len(record.recipes)} recipes."
    caption = f"Averages of at most {figures.CURVE_POINTS} bins per recipe over the whole stream."
    return _figure(figures.curves(record), spoken, caption, _table(columns, rows, "Training per step", digits=4))


def _ends(recipe: RecipeRecord, step: StepRecord) -> list[Cell]:
    rows = figures.curve_rows(recipe.model_copy(update={"steps": (step,)}), points=50)
    return [rows[0]["loss"], rows[-1]["loss"], f"{max(row['lr'] for row in rows):.2e}"] if rows else [None] * 3


def _mixture(record: ExperimentRecord) -> str:
    pools = sorted({pool for recipe in record.recipes for step in recipe.steps for pool in step.draws})
    rows = [
        [recipe.name, step.step, *(step.draws.get(pool, 0) for pool in pools)]
        for recipe in record.recipes
        for step in recipe.steps
    ]
    spoken = f"Stacked bars of the samples drawn from {', '.join(pools)} at every step, one chart per recipe."
    return _figure(
        figures.consumed_mixture(record), spoken, "", _table(["recipe", "step", *pools], rows, "Samples drawn")
    )


def _stream(record: ExperimentRecord) -> str:
    rows = [[step.name, step.concepts, step.samples, ", ".join(step.datasets)] for step in record.stream]
    return _folded("What arrived at each step", _table(["step", "concepts", "samples", "datasets"], rows, "The stream"))


def _budget(record: ExperimentRecord) -> str:
    rows = [
        [recipe.name, step.step, step.iterations, step.mafs_planned, step.mafs_used, f"{step.seconds:.1f}"]
        for recipe in record.recipes
        for step in recipe.steps
    ]
    table = _table(
        ["recipe", "step", "iterations", "MAFs planned", "MAFs used", "seconds"], rows, "Budget per step", digits=4
    )
    if not figures.has_budget(record):
        return "<p>No budget in MAFs was set; the iterations per step were given.</p>" + _folded("Data table", table)
    phases = _folded("By phase", _ledger(record)) if figures.has_ledger(record) else ""
    spoken = f"Bars of the memory-adjusted FLOPs used at every step with marks for the planned ones, {len(rows)} steps."
    caption = "MAFs: memory-adjusted FLOPs, the unit in which all recipes get the same compute."
    return _figure(figures.budget(record), spoken, caption, table) + phases


def _ledger(record: ExperimentRecord) -> str:
    """Planned and used compute of every phase over the whole stream; merging is priced but not charged."""
    rows = []
    for recipe in record.recipes:
        entries = [entry for step in recipe.steps for entry in step.ledger]
        for phase in dict.fromkeys(entry.phase for entry in entries):
            own = [entry for entry in entries if entry.phase == phase]
            sums = [sum(getattr(entry, name) for entry in own) for name in ("planned_mafs", "used_mafs", "gflops")]
            rows.append([recipe.name, phase, *sums])
    return _table(["recipe", "phase", "MAFs planned", "MAFs used", "GFLOPs"], rows, "Budget by phase", digits=4)


def _stages(record: ExperimentRecord) -> str:
    names = list(dict.fromkeys(stage.stage for stage in record.stages))
    groups = [[stage for stage in record.stages if stage.stage == name] for name in names]
    rows = [
        [
            name,
            sum(not stage.reused for stage in group),
            sum(stage.reused for stage in group),
            f"{sum(stage.seconds for stage in group):.1f}",
        ]
        for name, group in zip(names, groups, strict=True)
    ]
    every = [
        [stage.stage, stage.label, "re-used" if stage.reused else "executed", stage.reason, f"{stage.seconds:.1f}"]
        for stage in record.stages
    ]
    detail = _table(["stage", "of", "work", "reason", "seconds"], every, "Every stage")
    return _table(["stage", "executed", "re-used", "seconds"], rows, "Stages by kind") + _folded(
        "Every stage with its reason", detail
    )


def _lineage(record: ExperimentRecord) -> str:
    rows = [
        [recipe.name, step.step, *(_short(d) for d in (step.step_plan, step.expert, step.deployed))]
        for recipe in record.recipes
        for step in recipe.steps
    ]
    table = _table(["recipe", "step", "step data", "expert", "deployed"], rows, "Weights of every step")
    return f"<p>All recipes start from the pretrained weights <code>{_short(record.pretrained)}</code>.</p>{table}"


def _recipes(record: ExperimentRecord) -> str:
    return (
        "<dl>" + "".join(f"<dt>{escape(r.name)}</dt><dd>{escape(r.description)}</dd>" for r in record.recipes) + "</dl>"
    )


def _roles(record: ExperimentRecord) -> list[tuple[str, str]]:
    return [(name, "adaptation") for name in record.adaptation] + [(name, "retention") for name in record.retention]


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>{''.join(parts)}</section>"


def _figure(figure: go.Figure, spoken: str, caption: str, table: str, is_open: bool = False) -> str:
    """A figure with its spoken description, its caption and its numbers as a table."""
    least = (figure.layout.meta or {}).get("width")  # wider figures scroll inside their frame
    width, focus = (f' style="min-width:{least}px"', ' tabindex="0"') if least else ("", "")
    data = figure.to_json().replace("<", "\\u003c")  # no text of ours can end the script element
    return (
        f'<figure><div class="scroll"{focus}><div class="plot" role="img" aria-label="{escape(spoken)}"{width}>'
        f'<script type="application/json">{data}</script></div></div>'
        + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
        + _folded("Data table", table, is_open)
        + "</figure>"
    )


def _folded(title: str, content: str, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{title}</summary>{content}</details>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], name: str, digits: int = 3) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(_cell(value, digits) for value in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Cell, digits: int) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    text = "–" if value is None else f"{value:,}" if isinstance(value, int) else _number(value, digits)
    return f'<td class="number">{text}</td>'


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.{digits}g}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _asset(kind: str) -> str:
    return Path(__file__).with_suffix(f".{kind}").read_text(encoding="utf-8")
