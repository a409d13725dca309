"""What the checkpoints of an experiment are scored on: which images of which datasets, against which texts."""

from collections.abc import Mapping, Sequence

from prefect import get_run_logger
from pydantic import Field

from data_catalog.eval_sets import EvalSet, clean_name
from data_catalog.exclusions import Exclusions
from data_catalog.refs import Spec
from data_catalog.shards import DatasetRef
from data_catalog.validation import SPLIT, validation_name
from flows.experiment import EvaluationSpec, ExperimentConfig
from flows.ingest import Ingested, named
from models.evaluation.scores import EvalReport, StepScores, dataset_weights, mean_score, summarise
from tasks.compose import (
    compose_chosen_set,
    compose_eval_set,
    compose_probe_set,
    compose_prompted_validation_set,
    compose_subset,
    compose_validation_set,
)

TEST = "test"


class Means(Spec):
    """Which scores of a report enter which mean, under the names that sets have in reports."""

    adaptation: tuple[str, ...]
    retention: tuple[str, ...]
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    weights: dict[str, float] = Field(default_factory=dict)

    def summary(self, step: int, report: EvalReport) -> StepScores:
        """The summary of `report`; step -1 stands for the weights before the first update."""
        return summarise(step, report, self.adaptation, self.retention, self.weights)

    def of_groups(self, report: EvalReport) -> dict[str, float]:
        """The mean of each of the user's groups."""
        return {name: mean_score(report, sets, name, self.weights) for name, sets in self.groups.items()}


class ScoredSets(Spec):
    """What is scored, and when."""

    means: Means
    after_steps: tuple[EvalSet, ...]
    whole: tuple[EvalSet, ...] = ()  # before the first and after the last step, where the others are subsets
    validation: tuple[EvalSet, ...] = ()  # of training images that nothing was trained on, to choose by
    probing: tuple[EvalSet, ...] = ()  # training images to fit linear probes to, one set per set that is probed


def scored_datasets(experiment: ExperimentConfig, ingested: Ingested, adaptation: Sequence[str]) -> list[DatasetRef]:
    """All datasets that are scored: those of the means, and the own ones in none; raises ValueError for unknown ones.

    Groups and weights may name no other, and each mean needs a set that counts.
    """
    spec = experiment.evaluation
    names = list(dict.fromkeys([*adaptation, *spec.retention, *ingested.scored_only]))
    for key, given in (*((f"groups.{name}", sets) for name, sets in spec.groups.items()), ("weights", spec.weights)):
        if unknown := sorted({*given} - {*names}):
            raise ValueError(
                f"`evaluation.{key}` names {', '.join(unknown)}, which is not scored; scored are "
                f"{', '.join(sorted(names))}"
            )
    for sets in (adaptation, spec.retention, *spec.groups.values()):
        dataset_weights(sets, spec.weights)  # refuses a mean without weight before anything is trained
    return named(ingested, names, "evaluation")


def check_scored(experiment: ExperimentConfig, ingested: Ingested, streamed: Sequence[str]) -> list[DatasetRef]:
    """What may be scored, if it is all that is `streamed`; raises ValueError for what cannot be, whatever arrives.

    So that nobody trains for hours to be told of a misspelt name.
    """
    spec, own = experiment.evaluation, ingested.scored_only
    expected = scored_datasets(experiment, ingested, spec.adaptation or streamed)
    certain = {*(spec.adaptation or ()), *spec.retention, *own}
    check_images(spec, [dataset for dataset in expected if dataset.name in certain], own)
    return expected


def check_images(spec: EvaluationSpec, datasets: Sequence[DatasetRef], own: Sequence[str]) -> None:
    """Raise ValueError if a dataset that is scored has none of the images to score it on."""
    if spec.images == "validation":
        if missing := sorted({*spec.validation.without} & {dataset.name for dataset in datasets} - {*own}):
            raise ValueError(
                f"`evaluation.images` is validation, but {', '.join(missing)} has no such image: take it out of "
                "`evaluation.adaptation` and `evaluation.retention`"
            )
    elif bare := sorted(dataset.name for dataset in datasets if _split(dataset, own) not in dataset.samples):
        raise ValueError(
            f"no test images to score in {', '.join(bare)}: give its source some, or take it out of "
            "`evaluation.adaptation` and `evaluation.retention`"
        )
    if bare := sorted(dataset.name for dataset in _kept_from(spec, datasets, own) if not dataset.samples.get(SPLIT)):
        raise ValueError(
            f"no training images to validate on in {', '.join(bare)}: name them in `evaluation.validation.without`"
        )


def compose_scored_sets(
    experiment: ExperimentConfig,
    datasets: Sequence[DatasetRef],
    adaptation: Sequence[str],
    own: Sequence[str],
    exclusions: Sequence[Exclusions],
    leaked: Exclusions | None,
    clean: set[str],
) -> ScoredSets:
    """The sets an experiment asks for of the datasets that are scored.

    `own`: datasets from sources that are only scored; `exclusions`: what training leaves out; `leaked`: test images
    that were trained on, known of the datasets in `clean`.
    """
    spec, templates = experiment.evaluation, experiment.evaluation.prompts.given()
    check_images(spec, datasets, own)
    validation = _validation_sets(spec, _kept_from(spec, datasets, own), exclusions, templates)
    known = {name: leaked for name in clean}
    if spec.images == "validation":
        after_steps = (*validation, *_test_sets(spec, [d for d in datasets if d.name in own], own, known, templates))
    else:
        after_steps = _test_sets(spec, datasets, own, known, templates, experiment.seed)
    whole = _test_sets(spec, datasets, own, known, templates) if spec.subset is not None else ()
    return ScoredSets(
        means=_means(spec, adaptation, own), after_steps=after_steps, whole=whole, validation=validation,
        probing=_probing_sets(spec, datasets, own, exclusions) if spec.probe else (),
    )  # fmt: skip


def name_in_reports(dataset: str, spec: EvaluationSpec, own: Sequence[str]) -> str:
    """What a dataset is called in reports: its own name stands for its test images, all or a fixed subset of them."""
    if spec.images == "clean":
        return clean_name(dataset)
    return validation_name(dataset) if spec.images == "validation" and dataset not in own else dataset


def _means(spec: EvaluationSpec, adaptation: Sequence[str], own: Sequence[str]) -> Means:
    def called(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name_in_reports(name, spec, own) for name in names)

    return Means(
        adaptation=called(adaptation),
        retention=called(spec.retention),
        groups={name: called(sets) for name, sets in spec.groups.items()},
        weights=dict(zip(called([*spec.weights]), spec.weights.values(), strict=True)),
    )


def _test_sets(
    spec: EvaluationSpec,
    datasets: Sequence[DatasetRef],
    own: Sequence[str],
    leaked: Mapping[str, Exclusions | None],
    templates: tuple[str, ...],
    seed: int | None = None,
) -> tuple[EvalSet, ...]:
    """Test images of each dataset; `seed`: of a subset as `spec` says, without one all images."""
    only_clean = spec.images == "clean"
    if only_clean and (unknown := sorted({dataset.name for dataset in datasets} - {*leaked})):
        raise ValueError(
            f"`evaluation.images` is clean, but images of {', '.join(unknown)} were compared with no training image: "
            "search them too, by embedding where they were indexed unread"
        )
    waiting = []
    for dataset in datasets:
        split, prompts = _split(dataset, own), templates if dataset.kind == "classification" else ()
        marks = leaked.get(dataset.name)
        if seed is not None and spec.subset is not None:
            subset = compose_subset.submit(dataset, split, spec.subset, seed)
            waiting.append(compose_chosen_set.submit(dataset, split, marks, subset, only_clean, prompts))
        elif only_clean or prompts:
            waiting.append(compose_chosen_set.submit(dataset, split, marks, None, only_clean, prompts))
        else:
            waiting.append(compose_eval_set.submit(dataset, split, marks))
    return tuple(future.result() for future in waiting)


def _split(dataset: DatasetRef, own: Sequence[str]) -> str:
    """The test split; of own data without one, all of which nothing is trained on, what there is."""
    return SPLIT if dataset.name in own and TEST not in dataset.samples else TEST


def _kept_from(spec: EvaluationSpec, datasets: Sequence[DatasetRef], own: Sequence[str]) -> list[DatasetRef]:
    """Those that validation images are kept of, if the experiment keeps any to choose by."""
    without = {*own, *spec.validation.without} if spec.validation else {dataset.name for dataset in datasets}
    return [dataset for dataset in datasets if dataset.name not in without]


def _validation_sets(
    spec: EvaluationSpec, datasets: Sequence[DatasetRef], exclusions: Sequence[Exclusions], templates: tuple[str, ...]
) -> tuple[EvalSet, ...]:
    """The validation set of each of `datasets`."""
    waiting = [
        compose_prompted_validation_set.submit(dataset, spec.validation, list(exclusions), templates)
        if templates and dataset.kind == "classification"
        else compose_validation_set.submit(dataset, spec.validation, list(exclusions))
        for dataset in datasets
    ]
    return tuple(future.result() for future in waiting)


def _probing_sets(
    spec: EvaluationSpec, datasets: Sequence[DatasetRef], own: Sequence[str], exclusions: Sequence[Exclusions]
) -> tuple[EvalSet, ...]:
    """The training images of each classification set that has any, called as what is scored of it."""
    fitted = [d for d in datasets if d.kind == "classification" and d.samples.get(SPLIT) and _split(d, own) == TEST]
    if without := sorted({dataset.name for dataset in datasets} - {dataset.name for dataset in fitted}):
        get_run_logger().info("no linear probe of %s: retrieval sets, or no training images", ", ".join(without))
    waiting = [
        compose_probe_set.submit(dataset, name_in_reports(dataset.name, spec, own), list(exclusions))
        for dataset in fitted
    ]
    return tuple(future.result() for future in waiting)
