import json

import pytest

from data_catalog.registry import benchmark
from models.evaluation.published import (
    Baseline,
    baseline_summaries,
    benchmark_roles,
    check_beside,
    read_baseline,
    zero_shot_table,
)
from models.evaluation.scores import EvalReport, Score


def test_the_published_table_gives_the_published_summaries():
    values = [round(100 * summary.value, 3) for summary in baseline_summaries(zero_shot_table())]
    assert values == [38.473, 67.927, 51.121]
    assert {role: len(names) for role, names in benchmark_roles().items()} == {"adaptation": 41, "retention": 22}


def test_the_published_table_and_the_registry_agree():
    known = {entry.info_prefix: (entry.metric, entry.zero_shot) for entry in benchmark() if entry.zero_shot is not None}
    found = {score.dataset: (score.metric, pytest.approx(score.value)) for score in zero_shot_table().report.scores}
    assert found == known


def test_a_baseline_is_summarised_over_the_sets_of_a_smaller_experiment():
    knowledge, retention, _ = baseline_summaries(zero_shot_table(), ["CIFAR100", "DTD"], ["SVHN"])
    assert knowledge.value == pytest.approx((0.758 + 0.545) / 2)
    assert knowledge.low < knowledge.value < knowledge.high
    assert retention.value == pytest.approx(0.428)


@pytest.fixture
def table(tmp_path):
    def write(content, name="mine.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_tables_of_users_are_read_from_csv_and_json(table):
    rows = "dataset,percent,metric,samples\ndtd,54.5,,\nmy birds,12.5,accuracy_top1,400\n"
    objects = [
        {"dataset": "DTD", "value": 0.545},
        {"dataset": "my birds", "percent": 12.5, "metric": "accuracy_top1", "samples": 400},
    ]
    from_csv = read_baseline(table(rows, "mine.csv"))
    from_json = read_baseline(table({"name": "mine", "scores": objects}))
    assert from_csv == from_json
    dtd, birds = from_csv.report.scores
    assert (dtd.dataset, dtd.metric, dtd.samples) == ("DTD", "accuracy_top1", 1880)
    assert (birds.value, birds.samples) == (0.125, 400)
    assert birds.low < 0.125 < birds.high


@pytest.mark.parametrize("row, message", [
    ({"dataset": "dtdd", "percent": 50}, "needs metric and samples; close matches"),
    ({"dataset": "dtd"}, "either `percent`"),
    ({"dataset": "dtd", "percent": 50, "value": 0.5}, "either `percent`"),
    ({"dataset": "dtd", "value": 54.5}, "value of"),
    ({"dataset": "dtd", "percent": 50, "metric": "accuracy"}, "metric of"),
    ({"dataset": "dtd", "percent": 50, "score": 1}, "a row holds"),
    ("dtd", "a row holds"),
    ({"dataset": "mscoco", "percent": 5, "metric": "accuracy_top1"}, "scored by recall_at_5 in the benchmark"),
    ({"dataset": "", "percent": 5, "metric": "accuracy_top1", "samples": 5}, "dataset of"),
    ({"dataset": "mine", "percent": 5, "metric": "accuracy_top1", "samples": 10**20}, "samples of"),
])  # fmt: skip
def test_wrong_rows_are_named_with_their_file(table, row, message):
    path = table({"scores": [row]})
    with pytest.raises(ValueError, match=message) as raised:
        read_baseline(path)
    assert str(path) in str(raised.value)


def test_tables_of_another_form_are_refused(table):
    with pytest.raises(ValueError, match="list of scores"):
        read_baseline(table([1]))
    with pytest.raises(ValueError, match="holds no score"):
        read_baseline(table({"scores": []}))
    with pytest.raises(ValueError, match="more than one score of DTD"):
        read_baseline(table({"scores": [{"dataset": "dtd", "percent": 1}, {"dataset": "DTD", "percent": 1}]}))


@pytest.mark.parametrize("content, message", [
    (b"name,percent\ndtd,5\n", "no column `dataset`, only name, percent"),
    (b"", "no column `dataset`, only none"),
    (b"dataset;percent\ndtd;5\n", "with commas between them"),
    (b"dataset,percent\ndtd,54,5\n", "a cell without a column of"),
    (b"dataset,percent\nd\xe9,5\n", "in UTF-8"),
])  # fmt: skip
def test_csv_of_another_form_is_refused(tmp_path, content, message):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_baseline(tmp_path / "mine.csv")
    assert "mine.csv" in str(raised.value)


def named(name, **metrics):
    scores = [Score(dataset=dataset, metric=metric, value=0.5, samples=9) for dataset, metric in metrics.items()]
    return Baseline(name=name, report=EvalReport(checkpoint=name, scores=scores))


@pytest.mark.parametrize("baselines, message", [
    ([named("a"), named("a")], "would be called 'a'"),
    ([named("replay")], "would be called 'replay'"),
    ([named("zero-shot")], "would be called 'zero-shot'"),
    ([named("a", shapes="recall_at_5")], "the recall_at_5 of shapes, but new domains <demo> its accuracy_top1"),
])  # fmt: skip
def test_baselines_that_cannot_stand_beside_an_experiment_are_refused(record, baselines, message):
    with pytest.raises(ValueError, match=message):
        check_beside(record, baselines)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.csv"):
        read_baseline(tmp_path / "none.csv")
