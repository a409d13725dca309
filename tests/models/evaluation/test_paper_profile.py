import pytest
import torch

from data_catalog import store
from models import clip, embeddings
from models.evaluation.paper_profile import paper_scores
from models.evaluation.scoring import evaluate
from tests.models.evaluation.made_sets import made_set, three_sets

CAPTIONS = [f"photo of {colour}" for colour in ("red", "green", "blue", "white")]


@pytest.fixture
def shifted_set(tmp_path):
    """A retrieval set whose smallest class target is 1, as FSCOCO's is."""
    sets = three_sets(tmp_path)
    return [*sets, made_set(tmp_path, "sketches", "retrieval", CAPTIONS, [1, 2, 1, 3], [(i, i + 1) for i in range(4)])]


def named(scores):
    return {(score.dataset, score.metric): score.value for score in scores}


def test_owners_are_shifted_where_upstream_shifts_them(tiny, shifted_set):
    model, rows = clip.build(tiny), store.read_table(shifted_set[-1].digest)
    with torch.inference_mode():
        images = embeddings.embed_images(model, tiny.backbone, rows)
        similarity = embeddings.embed_texts(model, tiny.backbone, CAPTIONS) @ images.T  # [texts, images]
    hits = sum(int(similarity[text].argmax()) == text - 1 for text in range(1, 4))
    report = evaluate(tiny, shifted_set)
    found, right = named(paper_scores(tiny, shifted_set, report, seed=0)), named(report.scores)
    to_text = right["sketches", "image_to_text_at_1"]
    assert found["sketches", "recall_at_1_legacy"] == pytest.approx((hits / 4 + to_text) / 2)


def test_sets_whose_smallest_target_is_0_are_as_they_should_be(tiny, shifted_set):
    found = named(paper_scores(tiny, shifted_set, evaluate(tiny, shifted_set), seed=0))
    assert not [dataset for dataset, _ in found if dataset == "pairs"]
    assert {dataset for dataset, _ in found} == {"first", "second", "sketches"}


def test_legacy_values_stay_out_of_the_summaries_and_of_the_report(tiny, shifted_set):
    report = evaluate(tiny, shifted_set)
    scores = paper_scores(tiny, shifted_set, report, seed=0)
    assert scores and all(score.metric.endswith("_legacy") for score in scores)
    assert not [score for score in report.scores if score.metric.endswith("_legacy")]


def test_a_report_without_outcomes_is_refused(tiny, shifted_set):
    report = evaluate(tiny, shifted_set[:1])
    with pytest.raises(ValueError, match="no outcomes of second, pairs, sketches"):
        paper_scores(tiny, shifted_set, report, seed=0)
