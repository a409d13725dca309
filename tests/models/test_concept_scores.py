"""Scores of concepts by a checkpoint: what they are made of, and that orderings can use them."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_catalog import store
from data_catalog.captions import CaptionPolicy
from data_catalog.concept_scores import NameEmbeddings, PairLosses
from data_catalog.orderings import Difficulty, Similarity
from data_catalog.orderings.base import Background
from data_catalog.plan_rows import Sources
from data_catalog.seeds import rng
from data_catalog.shards import SAMPLES, DatasetFacts, DatasetRef, with_facts
from models import clip
from models.concept_scores import _embedded, balanced_loss, draw_pairs, score_concepts
from models.embeddings import embed_texts
from models.losses import clip_loss

CLASSES = ("red", "green", "blue")


@pytest.fixture
def datasets(step_plan):
    """The 64 images of plain colours: the first 40 by colour, the rest as a pool to compare with."""
    images = store.read_table(step_plan.digest).to_pylist()
    return [_dataset("COLOURS", images[:40], "a {}"), _dataset("POOL", images[40:], None)]


def _dataset(name, images, template):
    rows = [{"id": f"{name}/train/{i}", "split": "train", "concept": CLASSES[i % 3] if template else None,
             "default_caption": [image["text"]], **{c: image[c] for c in ("shard", "offset", "length", "hash")}}
            for i, image in enumerate(images)]  # fmt: skip
    known = DatasetFacts(name=name, kind="classification", prompt_template=template, classnames=CLASSES)
    table = with_facts(pa.Table.from_pylist(rows, SAMPLES), known)
    return DatasetRef(digest=store.write_table(table), name=name, samples={"train": len(rows)}, kind="classification")


def pairs_of(datasets, count, seed=0):
    return draw_pairs(Sources.of(datasets, (), CaptionPolicy(), ()), {"POOL"}, count, seed)


def test_names_are_embedded_with_their_template(tiny, datasets):
    scores = score_concepts(tiny, datasets[:1], NameEmbeddings())
    table = store.read_table(scores.digest)
    assert scores.concepts == 3 and table["concept"].to_pylist() == ["blue", "green", "red"]
    expected = embed_texts(clip.build(tiny), tiny.backbone, ["a blue", "a green", "a red"]).numpy()
    np.testing.assert_allclose(np.stack(table["value"].to_pylist()), expected, rtol=1e-5)


def test_orderings_take_the_scores_they_asked_for(tiny, datasets):
    for ordering in (Similarity(), Difficulty(pairs=8)):
        scores = score_concepts(tiny, datasets[:1], ordering.needs().score, reference=datasets[1:])
        rows = store.read_table(scores.digest).to_pylist()
        concepts = [(row["dataset"], row["concept"]) for row in rows]
        order = ordering.order(concepts, rng(0), Background(scores=scores))
        assert sorted(order) == sorted(concepts)


def test_losses_are_those_of_the_joint_batch(tiny, datasets):
    pairs = pairs_of(datasets, 4)
    model, scores = clip.build(tiny), score_concepts(tiny, datasets[:1], PairLosses(pairs=4), reference=datasets[1:])
    own, pool = (_embedded(model, tiny.backbone, part) for part in (pairs.own.slice(0, 4), pairs.reference.slice(0, 4)))
    expected = clip_loss(*(torch.cat(both) for both in zip(own, pool, strict=True)), model.logit_scale.exp().detach())
    assert store.read_table(scores.digest)["value"][0].as_py() == pytest.approx(float(expected), abs=1e-4)


def test_every_concept_has_its_own_pairs_and_never_one_twice(datasets):
    pairs = pairs_of(datasets, 12)
    assert [concept.name for concept in pairs.concepts] == ["blue", "green", "red"] and set(pairs.sizes) == {12}
    assert len(set(pairs.own["shard"].to_pylist())) == 36 and pairs.reference.num_rows == 24
    assert pairs_of(datasets, 12, seed=1).own["shard"].to_pylist() != pairs.own["shard"].to_pylist()


def test_a_concept_with_few_pairs_gives_all_it_has(datasets):
    with pytest.raises(ValueError, match=r"\['POOL'\] has 24 training pairs, expected at least 40"):
        pairs_of(datasets, 20)
    few = [_few(datasets[0]), datasets[1]]
    assert pairs_of(few, 5).sizes.tolist() == [1, 2, 2]


def test_a_dataset_is_not_its_own_reference(tiny, datasets):
    with pytest.raises(ValueError, match=r"\['COLOURS'\] are scored and their own reference"):
        score_concepts(tiny, datasets, PairLosses(pairs=2), reference=datasets[:1])


def _few(dataset):
    table = store.read_table(dataset.digest).slice(0, 5)
    return dataset.model_copy(update={"digest": store.write_table(table), "samples": {"train": 5}})


def test_own_and_reference_pairs_weigh_the_same_whatever_their_number():
    images, texts = (torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.manual_seed(i)), dim=-1)
                     for i in (0, 1))  # fmt: skip
    scale = torch.tensor(10.0)
    assert balanced_loss(images, texts, scale, 4) == pytest.approx(float(clip_loss(images, texts, scale)), rel=1e-5)
    assert balanced_loss(images, texts, scale, 1) != pytest.approx(float(clip_loss(images, texts, scale)), rel=1e-3)
