import pytest

from models.evaluation.record import load_record, store_record
from models.evaluation.report import forgetting, joint_of, markdown, score_rows, verdict
from models.evaluation.scores import (
    EvalReport,
    Score,
    clean_metric,
    evaluation_rows,
    geometric_mean,
    knowledge_accumulation,
    primary,
    summarise,
    zero_shot_retention,
)

# Reference 9.4: OpenCLIP ViT-B/32, LAION-2B, full test sets, percent.
ADAPTATION = """
ai2diagrams 72.7 · artbench10 15 · birdsnap 46.7 · cifar100 75.8 · clevr 4.7 · clrs 59.7 · country211 14.6 ·
cub200 64.1 · df20mini 2.1 · dollarstreet 5.5 · domainnet_clipart 78.7 · domainnet_infograph 50.9 ·
domainnet_painting 71.9 · domainnet_sketch 68.9 · dsprites 11.8 · dtd 54.5 · fgvcaircraft 23.9 · flowers102 68 ·
fru92 50.3 · fscoco 8.1 · inaturalist2021 5.4 · isicmelanoma 14.2 · mitstates 25.6 · mtsd 20.2 · mvtecad_adapt 80.2 ·
mvtecad_eval 16.8 · objectnet 32.1 · obsc_animals 58.9 · obsc_things 54 · openimages 49.4 · patternnet 63.6 ·
places365 41.8 · plantvillage 28.3 · quilt 0.2 · resisc45 62.5 · shapes3d 16.8 · snake_clef 0.3 · sun397 68.2 ·
synthclip106 41 · veg200 32.5 · zappos50k 17.5"""
RETENTION = """
caltech101 90.7 · caltech256 88.5 · cars196 85.9 · cifar10 93.7 · domainnet_quickdraw 19.1 · eurosat 49.2 ·
fashionmnist 77 · flickr30k 92.3 · food101 82.5 · gtsrb 48.6 · imagenet 65.5 · imagenet_a 23.1 · imagenet_d 40.7 ·
imagenet_r 73.9 · imagenet_s 52.3 · imagenet_v2 57.6 · mnist 69.2 · monkeys10 82.7 · mscoco 72 · oxford_pets 90.7 ·
stl10 96.4 · svhn 42.8"""


def published(table: str) -> dict[str, float]:
    return {name: float(value) / 100 for name, value in (entry.split() for entry in table.split("·"))}


def eval_report(values: dict[str, float]) -> EvalReport:
    metric = dict.fromkeys(("fscoco", "flickr30k", "mscoco"), "recall_at_5")
    scores = [Score(dataset=name, metric=metric.get(name, "accuracy_top1"), value=value, samples=100)
              for name, value in values.items()]  # fmt: skip
    return EvalReport(checkpoint="sha256:" + "0" * 64, scores=scores)


def test_published_table_gives_the_published_summaries():
    adaptation, retention = published(ADAPTATION), published(RETENTION)
    summary = summarise(-1, eval_report(adaptation | retention), list(adaptation), list(retention))
    assert (len(adaptation), len(retention)) == (41, 22)
    assert summary.knowledge_accumulation == pytest.approx(0.38473, abs=5e-6)
    assert summary.zero_shot_retention == pytest.approx(0.67927, abs=5e-6)
    assert summary.geometric_mean == pytest.approx(0.51121, abs=5e-6)


def test_secondary_metrics_stay_out_of_the_summaries():
    scores = [Score(dataset="a", metric=metric, value=value, samples=1)
              for metric, value in (("accuracy_top5", 0.9), ("accuracy_top1", 0.4), ("recall_at_1", 0.1))]  # fmt: skip
    assert primary(EvalReport(checkpoint="c", scores=scores)) == {"a": 0.4}


def test_geometric_mean_is_low_when_either_is():
    assert geometric_mean(0.0, 1.0) == 0.0


@pytest.mark.parametrize("mean", [knowledge_accumulation, zero_shot_retention])
def test_mean_over_nothing_is_refused(mean):
    with pytest.raises(ValueError, match="name at least one"):
        mean(eval_report({"a": 0.5}), [])


def test_dataset_missing_in_the_report_is_named():
    with pytest.raises(ValueError, match="lacks the adaptation sets b"):
        knowledge_accumulation(eval_report({"a": 0.5}), ["a", "b"])


def test_stored_record_comes_back_equal(record):
    reference = store_record(record)
    assert load_record(reference.digest) == record
    assert [len(values) for values in reference.accumulation.values()] == [4, 4, 4]


def test_forgetting_is_measured_from_the_best_score_on(record):
    lost = forgetting(record, record.recipes[0])
    assert lost["broad"] == pytest.approx(0.3)
    assert lost["shapes"] == 0.0


def test_verdict_says_of_every_recipe_what_it_learned_and_kept(record):
    finetune, _, merged, best = verdict(record)
    assert finetune == (
        "finetune learned the stream's datasets (0.300 → 0.700) but forgot part of what it knew (0.700 → 0.400)."
    )
    assert merged.startswith("replay + merge learned")
    assert "replay + merge, with a geometric mean of 0.653" in best


def test_table_has_a_row_for_the_start_and_for_every_step(record):
    assert [row["step"] for row in score_rows(record)] == [-1, *range(4), *range(4), *range(4)]
    assert "| zero-shot | start | 0.300 | 0.700 | 0.458 |" in markdown(record)


def test_clean_values_stand_beside_the_full_ones():
    full = Score(dataset="a", metric="accuracy_top1", value=0.5, samples=10)
    clean = Score(dataset="a", metric=clean_metric("accuracy_top1"), value=0.25, samples=4)
    other = Score(dataset="b", metric="recall_at_5", value=1, samples=3)
    rows = evaluation_rows(EvalReport(checkpoint="x", scores=(full, clean, other)))
    assert rows == [
        full.model_dump() | {"clean": 0.25, "clean_samples": 4},
        other.model_dump() | {"clean": None, "clean_samples": None},
    ]


def test_without_known_leaks_the_rows_are_the_scores():
    score = Score(dataset="a", metric="accuracy_top1", value=0.5, samples=10)
    assert evaluation_rows(EvalReport(checkpoint="x", scores=(score,))) == [score.model_dump()]


def test_a_recipe_called_joint_is_the_bound(record):
    assert joint_of(record) is None
    last = record.recipes[-1].model_copy(update={"name": "joint"})
    assert joint_of(record.model_copy(update={"recipes": (last,)})).summary == last.steps[-1].summary


def test_another_experiment_is_a_bound_only_on_the_same_sets(record):
    assert joint_of(record, record).name == record.name
    with pytest.raises(ValueError, match="the means of different sets cannot be compared"):
        joint_of(record, record.model_copy(update={"retention": record.retention[:1]}))
