"""All figures of an experiment as files: for papers, slides and trackers."""

import re
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from data_catalog.store_files import make_folder, write_atomically
from models.evaluation import figures, figures_run, figures_trajectory
from models.evaluation.record import ExperimentRecord
from models.evaluation.report import Joint, Published, joint_of, merge_rows
from models.evaluation.still import image
from models.evaluation.summary_intervals import all_intervals

FORMATS = ("png", "svg")
MOST_LETTERS = 80  # of a recipe's name in that of a file


def all_figures(
    record: ExperimentRecord, joint: Joint | None = None, published: Sequence[Published] = ()
) -> dict[str, go.Figure]:
    """File name without ending -> figure: those of the page that the record has something to show in."""
    known, joint = all_intervals(record), joint or joint_of(record)
    drawn = {
        "trajectory": figures_trajectory.trajectory(record, known, joint, published),
        "summaries": figures.over_steps(record, known, joint),
        "forgotten": figures.forgotten(record),
        "transfer": figures.transfers(record),
        "training": figures_run.curves(record),
        "mixture": figures_run.consumed_mixture(record),
    }
    endings = _file_names([recipe.name for recipe in record.recipes])
    drawn |= {
        f"datasets-{ending}": figures.heat_map(record, recipe)
        for ending, recipe in zip(endings, record.recipes, strict=True)
    }
    optional = (
        ("merge-weights", figures.merge_tradeoff, bool(merge_rows(record))),
        ("inside-steps", figures.inside_steps, any(s.inside for r in record.recipes for s in r.trained)),
        ("budget", figures_run.budget, figures_run.has_budget(record)),
        ("stages", figures_run.timeline, figures_run.has_timeline(record)),
    )
    return drawn | {name: draw(record) for name, draw, has_it in optional if has_it}


def export(
    record: ExperimentRecord,
    folder: Path,
    joint: Joint | None = None,
    published: Sequence[Published] = (),
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write every figure into `folder`, once per format, and return the paths.

    Raises MissingArtifact if the curves of a step are gone from the store.
    """
    make_folder(folder)
    paths = []
    for name, drawn in all_figures(record, joint, published).items():
        for kind in formats:
            paths.append(folder / f"{name}.{kind}")
            write_atomically(paths[-1], image(drawn, kind))
    return paths


def _file_names(recipes: Sequence[str]) -> list[str]:
    """What of each name a file can be called, with its number where that is nothing or would name another's too."""
    found = [re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:MOST_LETTERS] for name in recipes]
    alike = [name for name in found if [other.lower() for other in found].count(name.lower()) > 1]
    return [f"{name}-{i}".strip("-") if name in ("", *alike) else name for i, name in enumerate(found)]
