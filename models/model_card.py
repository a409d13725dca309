"""The model card of a version of a living stream, a README that goes wherever its weights go (arXiv 1810.03993).

It is a function of the ledger and the records alone: made again, it has the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from data_catalog.arrivals import in_words
from data_catalog.promotions import Promotion, weights_in_words
from models.evaluation.scores import SUMMARY_METRICS, EvalReport, primary
from models.living import LivingStep

_FRONT = """---
library_name: open_clip
pipeline_tag: zero-shot-image-classification
tags: [clip, continual-pretraining, evergreen]
---
"""


def model_card(
    stream: str, entry: Promotion, step: LivingStep | None, ancestors: Sequence[Promotion], backbone: Mapping[str, Any]
) -> str:
    """Markdown on the weights that `entry` of the ledger of `stream` brought; `step`: None for those it began with.

    `ancestors`: the versions they were trained on from, nearest first; `backbone`: a summary of `models.exporting`.
    """
    about = weights_in_words(step and step.step)
    parts = [_FRONT + f"# {stream}, {about}", _what_it_is(stream, entry), _architecture(backbone)]
    if step is None:
        parts.append("Scores: the version of the first step lists those of these weights beside its own.")
    else:
        parts += [_scores(step), _verdict(step), _data(step), _budget(step)]
    parts += [_lineage(entry, step, ancestors), _loading()]
    return "\n\n".join(parts) + "\n"


def plain_card(checkpoint: str, backbone: Mapping[str, Any], origins: Sequence[Mapping[str, Any]]) -> str:
    """Markdown on a checkpoint that no living stream brought: its architecture, and how the store says it was made."""
    made = "\n".join(f"- `{json.dumps(origin, sort_keys=True)}`" for origin in origins) or "- nothing"
    about = f"`{checkpoint}`\n\nHow it was made, as recorded with it:\n\n{made}"
    return "\n\n".join([_FRONT + f"# {checkpoint[:19]}", about, _architecture(backbone), _loading()]) + "\n"


def _what_it_is(stream: str, entry: Promotion) -> str:
    deed = {"start": "The beginning of the stream", "promote": "Promoted"}[entry.deed]
    return _rows(
        ("weights", f"`{entry.checkpoint}`"), ("entry", f"{entry.number} of the ledger of {stream}"),
        (deed.lower(), f"{entry.time} by {entry.by}"), ("reason", entry.reason),
    )  # fmt: skip


def _architecture(backbone: Mapping[str, Any]) -> str:
    shape = backbone["preprocessing"]
    return "## Architecture\n\n" + _rows(
        ("image tower", backbone["image_tower"]), ("text tower", backbone["text_tower"]),
        ("dimensions", backbone["dimensions"]),
        ("tokenizer", f"{backbone['tokenizer']}, {backbone['context_length']} tokens"),
        ("images", f"{shape['size']} pixels, {shape['resize_mode']}, {shape['interpolation']}, "
                   f"mean {shape['mean']}, standard deviation {shape['std']}"),
    )  # fmt: skip


def _scores(step: LivingStep) -> str:
    means = _table(
        ["mean", "this", "live before", "first"],
        [
            [name.replace("_", " "), *(_number(getattr(summary, name)) for summary in (
                step.record.summary, step.live_summary, step.first_summary))]
            for name in ("knowledge_accumulation", "zero_shot_retention", "geometric_mean")
        ],
    )  # fmt: skip
    mine, before, first = (primary(report) for report in (step.record.scores, step.live, step.first))
    roles = {name: "retention" for name in step.retention} | {name: "adaptation" for name in step.adaptation}
    sets = _table(
        ["set", "role", "metric", "images", "this", "live before", "first"],
        [
            [name, roles.get(name, "own"), *_metric(step.record.scores, name), _number(value),
             _number(before.get(name)), _number(first.get(name))]
            for name, value in sorted(mine.items())
        ],
    )  # fmt: skip
    return f"## Scores\n\n{means}\n\n{sets}"


def _verdict(step: LivingStep) -> str:
    checks = "\n".join(f"- {check.outcome}: {check.spoken()}" for check in step.verdict.checks)
    return f"## Gate\n\n{step.verdict.outcome}: {'; '.join(step.verdict.reasons)}\n\n{checks}"


def _data(step: LivingStep) -> str:
    draws, all_draws = step.record.draws, sum(step.record.draws.values()) or 1
    arrived = in_words(step.arrival.samples)
    mixture = _table(
        ["pool", "draws", "share"], [[pool, count, _number(count / all_draws)] for pool, count in sorted(draws.items())]
    )
    before = sum(summary.samples for summary in step.plan.steps[: step.step])
    return (
        f"## Data\n\nArrived at this step: {arrived}. Streamed before: {before} samples in {step.step} steps; "
        f"pretraining pool: {step.plan.pretraining_samples}.\n\n{mixture}"
    )


def _budget(step: LivingStep) -> str:
    record = step.record
    rows = [("iterations", record.iterations), ("seconds of training", _number(record.seconds))]
    if record.mafs_planned is not None:
        rows += [("MAFs planned", _number(record.mafs_planned)), ("MAFs used", _number(record.mafs_used))]
    return "## Budget\n\n" + _rows(*rows)


def _lineage(entry: Promotion, step: LivingStep | None, ancestors: Sequence[Promotion]) -> str:
    rows = [("weights", f"`{entry.checkpoint}`"), ("backbone", f"`{entry.backbone}`")]
    if step is not None:
        rows += [
            ("started from", f"`{step.started_from}`"), ("after the update", f"`{step.expert.checkpoint.digest}`"),
            ("samples drawn", f"`{step.record.step_plan}`"), ("arrival", f"`{step.arrival.digest}`"),
            ("configuration", f"`{step.config}`"), ("verdict", f"`{step.verdict_digest}`"),
        ]  # fmt: skip
    chain = " <- ".join(f"step {each.step}" if each.step is not None else "the beginning" for each in ancestors)
    return "## Lineage\n\n" + _rows(*rows) + (f"\n\nTrained on from: {chain}" if chain else "")


def _loading() -> str:
    return (
        "## Use\n\n```python\nimport open_clip\n\n"
        'model, _, preprocess = open_clip.create_model_and_transforms("local-dir:THIS_FOLDER")\n'
        'tokenizer = open_clip.get_tokenizer("local-dir:THIS_FOLDER")\n```\n\n'
        "A folder in the layout of Hugging Face (it has a `config.json`):\n\n```python\n"
        "from transformers import AutoModel, AutoProcessor\n\n"
        'model = AutoModel.from_pretrained("THIS_FOLDER")\n'
        'processor = AutoProcessor.from_pretrained("THIS_FOLDER", backend="pil")  # resizes as in training\n```\n\n'
        "If `open_clip_config.json` names a `bpe_path` or `hf_model_name`, it is the absolute path of a file beside "
        "it: change it when the folder moves."
    )


def _metric(report: EvalReport, name: str) -> tuple[str, int]:
    score = next(score for score in report.scores if score.dataset == name and score.metric in SUMMARY_METRICS)
    return score.metric, score.samples


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _rows(*pairs: tuple[str, object]) -> str:
    return _table(["", ""], [[name, value] for name, value in pairs])


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
