"""The report of an experiment as one HTML file that opens from disk and loads nothing."""

from collections.abc import Sequence
from pathlib import Path

from data_catalog import places
from data_catalog.store_files import write_atomically
from models.evaluation import page_run, page_scores
from models.evaluation.page_examples import single_images
from models.evaluation.page_parts import Section, whole_page
from models.evaluation.record import ExperimentRecord, run_name
from models.evaluation.report import Joint, Published, joint_of, merge_rows, verdict


def render(record: ExperimentRecord, joint: Joint | None = None, published: Sequence[Published] = ()) -> str:
    """The whole page, with `joint` or else the record's own joint recipe as the bound to reach, beside `published`.

    Raises MissingArtifact if the curves of a step are gone from the store.
    """
    reused = sum(stage.reused for stage in record.stages)
    facts = {
        "steps": len(record.stream),
        "recipes": len(record.recipes),
        "adaptation sets": len(record.adaptation),
        "held-out sets": len(record.retention),
        "stages re-used": f"{reused} of {len(record.stages)}",
        "seed": record.seed,
    }
    sections = _sections(record, joint or joint_of(record), published)
    return whole_page("continual pretraining report", record.name, verdict(record), facts, sections)


def write(record: ExperimentRecord, joint: Joint | None = None, published: Sequence[Published] = ()) -> Path:
    """Write the page into the `reports` of the home, in place of an earlier one, and return its path."""
    path = places.home() / "reports" / f"{run_name(record.name, record.seed)}.html"
    write_atomically(path, render(record, joint, published).encode())
    return path


def _sections(record: ExperimentRecord, joint: Joint | None, published: Sequence[Published]) -> list[Section]:
    sections = [
        page_scores.learned_and_kept(record, joint, published),
        page_scores.merge_tradeoff(record) if merge_rows(record) else None,
        page_scores.every_dataset(record),
        page_scores.forgotten(record),
        page_scores.inside_steps(record),
        page_scores.whole_sets(record),
        page_scores.clean_images(record),
        single_images(record),
        page_run.training(record),
        page_run.samples_seen(record),
        page_run.budget(record),
        page_run.stages(record),
        page_run.lineage(record),
        page_run.configuration(record),
    ]
    return [section for section in sections if section is not None]
