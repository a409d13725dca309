"""Several experiments side by side in one HTML file like that of a report."""

from collections.abc import Sequence
from difflib import unified_diff
from html import escape
from pathlib import Path

from data_catalog import places
from data_catalog.store_files import write_atomically
from models.evaluation import figures_compare, figures_trajectory
from models.evaluation.compare import Contender, Standing, Verdict, against, common_mafs, standings
from models.evaluation.page_parts import Cell, Section, figure, folded, note, number, short, table, unbroken, whole_page
from models.evaluation.page_scores import left_out
from models.evaluation.record import run_name
from models.evaluation.report import Joint, Published
from models.evaluation.significance import Paired
from models.evaluation.summaries import BENCHMARK
from models.evaluation.summary_intervals import Known, all_intervals

SHORT = dict(zip(BENCHMARK, ("KA", "ZS", "GM"), strict=True))


def render(found: Sequence[Contender], joint: Joint | None = None, published: Sequence[Published] = ()) -> str:
    """The whole page; raises MissingArtifact for outcomes that have gone."""
    rows = standings(found)
    verdicts = against(found, rows[0].label)
    budget = common_mafs(found)
    facts = {
        "experiments": len({(c.record.name, c.record.seed) for c in found}),
        "recipes": len(found),
        "compared at": "the end" if budget is None else f"{number(budget)} MAFs",
        "adaptation sets": len(found[0].record.adaptation),
        "held-out sets": len(found[0].record.retention),
    }
    sections = [
        _standings(rows, budget, joint, published),
        _significance(rows[0].label, verdicts),
        _trajectories(found, joint, published),
        *([_over_compute(found)] if budget is not None else []),
        _datasets(found),
        _configurations(found),
        _lineage(found),
    ]
    return whole_page("comparison", _title(found), headlines(rows, verdicts), facts, sections)


def write(
    found: Sequence[Contender],
    path: Path | None = None,
    joint: Joint | None = None,
    published: Sequence[Published] = (),
) -> Path:
    """Write the page to `path`, by default into the `reports` of the home under the names of all, and return it.

    Raises ValueError where `path` is a folder.
    """
    if path is None:
        names = dict.fromkeys(run_name(c.record.name, c.record.seed) for c in found)
        path = places.home() / "reports" / f"compare-{'-'.join(names)[:120]}.html"
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file that the page is written to, e.g. {path / 'page.html'}")
    write_atomically(path, render(found, joint, published).encode())
    return path


def headlines(rows: Sequence[Standing], verdicts: Sequence[Verdict]) -> list[str]:
    """Who is ahead, and by more than chance of whom."""
    first, second = rows[0], rows[1]
    told = {verdict.label: verdict for verdict in verdicts}
    lines = []
    if second.equal is not None:
        found = told[second.label].found
        gap = first.equal.geometric_mean - second.equal.geometric_mean
        sure = "not tested image by image" if found is None else _in_words(found.summaries[-1])
        lines.append(f"Next: {second.label}, behind by {gap:.3f}, {sure}.")
    lines.append(f"Ahead: {first.label}, with a geometric mean of {first.equal.geometric_mean:.3f} at equal compute.")
    return lines


def _in_words(row: Paired) -> str:
    sure = "more than the choice of images explains" if row.is_significant else "which the choice of images may explain"
    return f"{sure} (95 %: {row.low:+.3f} to {row.high:+.3f}, p = {row.adjusted_p:.2g})"


def _title(found: Sequence[Contender]) -> str:
    return " · ".join(dict.fromkeys(f"{c.record.name}, seed {c.record.seed}" for c in found))


def _standings(
    rows: Sequence[Standing], budget: float | None, joint: Joint | None, published: Sequence[Published]
) -> Section:
    cells: list[list[Cell]] = [
        [row.label, *_values(row.equal), row.step, row.mafs, *_values(row.final)] for row in rows
    ]
    if joint:
        cells.append([f"{joint.name} (joint)", None, None, None, None, None, *_values(joint.summary)])
    cells += [
        [f"{row.name} (published)", *[None] * 5, *_values(row.summary)] for row in published if row.summary is not None
    ]
    columns = ["recipe", "GM", "KA", "ZS", "step", "MAFs in all", "GM at its end", "KA at its end", "ZS at its end"]
    text = (
        "Budgets are not all known, so the ends of the streams are compared."
        if budget is None
        else f"Sorted by the geometric mean at equal compute: the last scored step within {number(budget)} MAFs, which "
        "is all that the cheapest stream used."
    )
    return Section(
        "Standings", table(columns, cells, "Recipes by geometric mean", digits=3) + note(text) + left_out(published)
    )


def _values(summary: object | None) -> list[Cell]:
    names = ("geometric_mean", "knowledge_accumulation", "zero_shot_retention")
    return [None if summary is None else getattr(summary, name) for name in names]


def _significance(leader: str, verdicts: Sequence[Verdict]) -> Section:
    rows: list[list[Cell]] = []
    for verdict in verdicts:
        if verdict.found is None:
            rows.append([verdict.label, *[verdict.reason, None, None, None, None]])
            continue
        better, worse = _counts(verdict.found.datasets)
        rows.append([verdict.label, *map(_tested, verdict.found.summaries), better, worse])
    columns = [f"{leader} against", *(SHORT[name] for name in BENCHMARK), "sets better", "sets worse"]
    text = (
        "Both scored the same images, which are resampled in pairs: in brackets what 95 % of resamplings lie between. "
        "p: how often swapping outcomes of images at random sets them as far apart, adjusted for three means and all "
        "pairs of recipes, since the leader was picked for being ahead. "
        "Sets better and worse: those with a difference whose p-value, adjusted by Holm for all sets, is at most 5 %. "
        "Only other images are considered: another seed of training is another run."
    )
    detail = [[v.label, *_row(row)] for v in verdicts if v.found for row in v.found.datasets]
    names = [f"{leader} against", "dataset", "first", "second", "difference", "low", "high", "p", "adjusted p"]
    more = folded("By dataset", table(names, detail, "Differences by dataset")) if detail else ""
    return Section("Beyond chance", table(columns, rows, f"{leader} against the others") + note(text) + more)


def _tested(row: Paired) -> str:
    ends, p = unbroken(f"({row.low:+.3f} to {row.high:+.3f}),"), unbroken(f"p = {row.adjusted_p:.2g}")
    return f"{row.difference:+.3f} {ends} {p}"


def _counts(rows: Sequence[Paired]) -> tuple[int, int]:
    sure = [row for row in rows if row.is_significant]
    return sum(row.difference > 0 for row in sure), sum(row.difference < 0 for row in sure)


def _row(row: Paired) -> list[Cell]:
    return [row.name, row.first, row.second, row.difference, row.low, row.high, f"{row.p:.2g}", f"{row.adjusted_p:.2g}"]


def _trajectories(found: Sequence[Contender], joint: Joint | None, published: Sequence[Published]) -> Section:
    lines = [figures_trajectory.Line(c.record, c.recipe, c.number) for c in found]
    ends = "; ".join(
        f"{c.label} ends at {c.recipe.steps[-1].summary.knowledge_accumulation:.3f}, "
        f"{c.recipe.steps[-1].summary.zero_shot_retention:.3f}"
        for c in found
    )
    spoken = f"Line chart of knowledge accumulation against zero-shot retention: {ends}."
    caption = "Further right is more learned from the stream, further up is more kept of what was known before."
    rows = [
        [c.label, step.step, *(getattr(step.summary, name) for name in BENCHMARK)]
        for c in found
        for step in c.recipe.steps
    ]
    numbers = table(["recipe", "step", *SHORT.values()], rows, "Summaries per recipe and step")
    drawn = figures_trajectory.trajectories(lines, _known(found), joint, published)
    return Section("Learned and kept", figure(drawn, spoken, caption, numbers))


def _known(found: Sequence[Contender]) -> Known:
    known: Known = {}
    for contender in reversed(found):  # so that the start is that of the first
        known |= all_intervals(contender.record.model_copy(update={"recipes": (contender.recipe,)}))
    return known


def _over_compute(found: Sequence[Contender]) -> Section:
    spoken = f"Line charts of the three summaries against the compute used, for {', '.join(c.label for c in found)}."
    caption = "Dashed: the compute that all have used, at which they are compared."
    rows = [
        [c.label, step.step, step.iterations, step.mafs_planned, step.mafs_used]
        for c in found
        for step in c.recipe.trained
    ]
    numbers = table(["recipe", "step", "iterations", "MAFs planned", "MAFs used"], rows, "Compute per step", digits=4)
    return Section("By compute", figure(figures_compare.over_compute(found), spoken, caption, numbers))


def _datasets(found: Sequence[Contender]) -> Section:
    shown, record = figures_compare.columns(found), found[0].record
    sets = [(name, "adaptation") for name in record.adaptation] + [(name, "retention") for name in record.retention]
    rows = [[name, role, *(scores.get(name) for scores in shown.values())] for name, role in sets]
    spoken = f"Heat map of the scores of {len(rows)} datasets under {len(shown)} recipes at equal compute; table below."
    numbers = table(["dataset", "role", *shown], rows, "Scores per dataset and recipe")
    return Section("Every dataset", figure(figures_compare.datasets(found), spoken, "", numbers))


def _configurations(found: Sequence[Contender]) -> Section:
    records = list({(c.record.name, c.record.seed): c.record for c in found}.values())
    parts = []
    for other in records[1:]:
        first, second = (record.config.splitlines() for record in (records[0], other))
        lines = unified_diff(first, second, records[0].name, other.name, n=1, lineterm="")
        text = "\n".join(lines) or "no difference"
        label = escape(f"From {records[0].name} to {other.name}")
        parts.append(f'<h3>{label}</h3><pre tabindex="0" role="region" aria-label="{label}">{escape(text)}</pre>')
    said = "".join(f"<dt>{escape(c.label)}</dt><dd>{escape(c.recipe.description)}</dd>" for c in found)
    return Section("Recipes and configurations", f"<dl>{said}</dl>{''.join(parts)}")


def _lineage(found: Sequence[Contender]) -> Section:
    rows: list[list[Cell]] = [
        [
            c.label,
            run_name(c.record.name, c.record.seed),
            short(c.record.pretrained),
            short(c.recipe.steps[-1].deployed),
        ]
        for c in found
    ]
    columns = ["recipe", "experiment", "pretrained weights", "last deployed weights"]
    return Section("Lineage", table(columns, rows, "Weights of every recipe"))
