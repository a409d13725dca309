"""How well texts fit their images, by a checkpoint."""

import io
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_catalog import store
from data_catalog.captions import CaptionPolicy, Template, caption, training_texts
from data_catalog.places import register_source
from data_catalog.shards import SAMPLES, DatasetFacts, DatasetRef, with_facts
from models.caption_quality import score_captions
from models.clip import build, initialise
from models.embeddings import embed_dataset, embed_images, embed_texts


@pytest.fixture
def dataset(tmp_path):
    """Four training images and a test image, each with two merged captions."""
    register_source("plain", tmp_path)
    rows = []
    for i, split in enumerate(["train"] * 4 + ["test"]):
        noise = np.random.default_rng(i).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer := io.BytesIO(), format="PNG")
        (tmp_path / f"{i}.png").write_bytes(buffer.getvalue())
        rows.append(dict.fromkeys(SAMPLES.names) | {
            "id": f"D/{split}/{i}", "split": split, "concept": "red", "shard": f"plain/{i}.png", "offset": 0,
            "length": len(buffer.getvalue()), "hash": sha256(buffer.getvalue()).digest(),
            "synthetic_merged_caption": [f"a photo of {'red' * i}", "a green square"],
        })  # fmt: skip
    facts = DatasetFacts(name="D", kind="classification", prompt_template="a photo of {}", classnames=("red",))
    digest = store.write_table(with_facts(pa.Table.from_pylist(rows, SAMPLES), facts))
    return DatasetRef(digest=digest, name="D", samples={"train": 4, "test": 1}, kind="classification")


def test_a_score_is_the_cosine_of_text_and_image(dataset, tiny):
    scores = store.read_table(score_captions(dataset, None, tiny).digest)
    rows = store.read_table(dataset.digest).slice(0, 4)
    images = embed_images(build(tiny), tiny.backbone, rows).numpy()
    for kind, position, image, score in zip(
        *(scores[name].to_pylist() for name in ("kind", "position")), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
        scores["clip_score"].to_pylist(), strict=True
    ):  # fmt: skip
        if image == 4:
            assert score is None  # a test image
            continue
        text = rows["synthetic_merged_caption"][image].as_py()[position]
        [said] = embed_texts(build(tiny), tiny.backbone, [text]).numpy()
        assert kind == "synthetic_merged" and score == pytest.approx(images[image] @ said, abs=2e-3)


def test_scores_fit_the_captions_row_by_row(dataset, tiny):
    captions = caption(dataset, Template())
    scores = score_captions(dataset, captions, tiny, splits=("train", "test"))
    said, scored = store.read_table(captions.digest), store.read_table(scores.digest)
    assert scores.captions == captions.digest and scores.checkpoint == tiny.digest
    assert scored.select(["sample", "position"]) == said.select(["sample", "position"])
    assert scored["clip_score"].null_count == 0


def test_a_policy_decides_by_them(dataset, tiny):
    scores = score_captions(dataset, None, tiny)
    table = training_texts(dataset, [], CaptionPolicy(prefer=("synthetic_merged",), choice={"kind": "best"}), [scores])
    assert table["texts"].null_count == 0 and table["score"].null_count == 1
    known = store.read_table(scores.digest).to_pylist()
    best = [max(known[i : i + 2], key=lambda row: row["clip_score"]) for i in range(0, 8, 2)]
    assert table["score"].to_pylist()[:4] == [row["clip_score"] for row in best]


def test_known_embeddings_are_used_and_must_fit(dataset, tiny, tiny_folder):
    known = embed_dataset(dataset, tiny, ("train",))
    told = []
    score_captions(dataset, None, tiny, known, progress=lambda *now: told.append(now))
    assert told == [("score captions of D", 8, 8)]
    other = initialise(str(tiny_folder), seed=1)
    with pytest.raises(ValueError, match=r"the embeddings are of dataset .* by checkpoint .*, expected D"):
        score_captions(dataset, None, other, known)


def test_scoring_again_gives_the_same_bytes(dataset, tiny):
    assert score_captions(dataset, None, tiny) == score_captions(dataset, None, tiny)
