import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from data_catalog import places, store
from data_catalog.eval_sets import EvalSet
from models import clip, embeddings
from models.checkpoints import load, save
from models.evaluation import kept_scores
from models.evaluation.scores import primary
from models.evaluation.scoring import evaluate

PROMPTS = ["a red square", "a green square", "a blue square"]


@pytest.fixture
def eval_sets(tmp_path):
    """Two classification sets that share their prompts, and a retrieval set with two captions per image."""
    places.register_source("plain", tmp_path)
    captions = [f"{word} of {colour}" for colour in ("red", "green", "blue", "white") for word in ("photo", "square")]
    owned = [(2 * i, 2 * i + 2) for i in range(4)]
    return [
        eval_set(tmp_path, "first", "classification", PROMPTS, [0, 1, 2] * 4),
        eval_set(tmp_path, "second", "classification", PROMPTS, [2, 1, 0, 0, 1]),
        eval_set(tmp_path, "pairs", "retrieval", captions, [0, 0, 7, 7], owned),
    ]


def eval_set(root, name, kind, texts, targets, owned=None):
    """Noise images with a cast of the colour of their target."""
    rng, rows = np.random.default_rng(len(targets)), []
    for i, target in enumerate(targets):
        pixels = rng.integers(0, 200, (20, 24, 3), dtype=np.uint8)
        pixels[..., target % 3] += 50
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (root / f"{name}{i}.png").write_bytes(buffer.getvalue())
        first, last = owned[i] if owned else (target, target + 1)
        digest = hashlib.sha256(buffer.getvalue()).digest()
        rows.append({"target": target, "shard": f"plain/{name}{i}.png", "offset": 0, "length": len(buffer.getvalue()),
                     "hash": digest, "first_text": first, "last_text": last})  # fmt: skip
    texts = store.write_bytes(json.dumps(texts).encode())
    return EvalSet(
        digest=store.write_table(pa.Table.from_pylist(rows)), name=name, kind=kind, texts=texts, samples=len(rows)
    )


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded, batch by batch."""
    counts, decode = [], embeddings.centred_images
    monkeypatch.setattr(
        embeddings, "centred_images", lambda rows, *how: counts.append(rows.num_rows) or decode(rows, *how)
    )
    return counts


def values(report):
    return {(score.dataset, score.metric): score.value for score in report.scores}


def test_scores_come_in_the_order_of_the_sets(tiny, eval_sets):
    report = evaluate(tiny, eval_sets)
    assert report.checkpoint == tiny.digest
    assert list(values(report)) == [
        ("first", "accuracy_top1"), ("second", "accuracy_top1"), ("pairs", "recall_at_1"), ("pairs", "recall_at_5"),
    ]  # fmt: skip
    assert [score.samples for score in report.scores] == [12, 5, 4, 4]


def test_accuracy_is_that_of_the_plain_computation(tiny, eval_sets):
    model, rows = clip.build(tiny), store.read_table(eval_sets[0].digest)
    images = embeddings.centred_images(rows, clip.preprocessing(tiny.backbone).size)
    with torch.inference_mode():
        features = model.encode_image(clip.normalise(images, tiny.backbone), normalize=True)
        classes = model.encode_text(clip.tokenizer(tiny.backbone)(PROMPTS), normalize=True)
    expected = ((features @ classes.T).argmax(1) == torch.tensor(rows["target"].to_pylist())).float().mean()
    assert values(evaluate(tiny, eval_sets))["first", "accuracy_top1"] == pytest.approx(float(expected))


def test_batches_do_not_change_the_scores(tiny, eval_sets, monkeypatch):
    whole = evaluate(tiny, eval_sets)
    monkeypatch.setattr(kept_scores, "REVISION", -1)  # nothing kept counts
    assert evaluate(tiny, eval_sets, batch_size=5) == whole


def test_every_image_is_decoded_once_and_no_batch_spans_two_sets(tiny, eval_sets, decoded):
    evaluate(tiny, eval_sets, batch_size=8)
    assert sorted(decoded) == [4, 4, 5, 8]


def test_identical_texts_are_embedded_once(tiny, eval_sets, monkeypatch):
    texts, tokenizer = [], clip.tokenizer
    monkeypatch.setattr(
        clip, "tokenizer", lambda backbone: lambda batch: texts.extend(batch) or tokenizer(backbone)(batch)
    )
    evaluate(tiny, eval_sets)
    assert len(texts) == len(set(texts)) == 11


def test_another_set_costs_only_itself(tiny, eval_sets, decoded):
    first = evaluate(tiny, eval_sets[:1])
    decoded.clear()
    assert values(first).items() <= values(evaluate(tiny, eval_sets)).items()
    assert sum(decoded) == 5 + 4


def test_kept_scores_need_no_model(tiny, eval_sets, monkeypatch):
    report = evaluate(tiny, eval_sets)
    monkeypatch.setattr(clip, "build", lambda checkpoint: pytest.fail("the model was built"))
    assert evaluate(tiny, eval_sets) == report


@pytest.mark.parametrize("damage", [lambda text: text[:40], lambda text: text.replace(b'"value": 0', b'"value": 1'),
                                    lambda text: b"[]"])  # fmt: skip
def test_damaged_kept_scores_are_computed_again(tiny, eval_sets, decoded, damage, caplog):
    report = evaluate(tiny, eval_sets[1:2])
    (path,) = (places.store_root() / "scores").glob("*/*.json")
    path.write_bytes(damage(path.read_bytes()))
    assert evaluate(tiny, eval_sets[1:2]) == report
    assert sum(decoded) == 2 * 5 and "damaged" in caplog.text


def test_other_weights_are_scored_themselves(tiny, tiny_folder, eval_sets, decoded):
    evaluate(tiny, eval_sets[:1])
    evaluate(clip.initialise(str(tiny_folder), seed=1), eval_sets[:1])
    assert sum(decoded) == 24


def test_diverged_weights_are_refused(tiny, eval_sets):
    broken = {name: torch.full_like(weight, torch.nan) for name, weight in load(tiny).items()}
    with pytest.raises(ValueError, match="not finite on first"):
        evaluate(save(broken, tiny.backbone), eval_sets[:1])


def test_target_without_a_class_is_refused(tiny, tmp_path, eval_sets):
    wrong = eval_set(tmp_path, "wrong", "classification", PROMPTS, [0, 3])
    with pytest.raises(ValueError, match="wrong has targets outside its 3 classes"):
        evaluate(tiny, [wrong])


def marked(eval_set, clean):
    """`eval_set` with a mark on each image: whether it is clean."""
    table = store.read_table(eval_set.digest).append_column("clean", pa.array(clean))
    return eval_set.model_copy(update={"digest": store.write_table(table)})


def alone(eval_set, kept):
    """The images at the positions `kept` as a set of their own, with their own texts where they own some."""
    rows, texts = store.read_table(eval_set.digest).take(kept).to_pylist(), json.loads(store.read_bytes(eval_set.texts))
    if eval_set.kind == "retrieval":
        texts = [text for row in rows for text in texts[row["first_text"] : row["last_text"]]]
        rows = [row | {"first_text": 2 * i, "last_text": 2 * i + 2} for i, row in enumerate(rows)]
    return EvalSet(
        digest=store.write_table(pa.Table.from_pylist(rows)), name="alone", kind=eval_set.kind,
        texts=store.write_bytes(json.dumps(texts).encode()), samples=len(rows),
    )  # fmt: skip


@pytest.mark.parametrize("which, kept", [(0, [0, 1, 4, 9, 11]), (1, [3]), (2, [1, 2, 3])])
def test_clean_scores_are_those_of_the_clean_images_alone(tiny, eval_sets, which, kept):
    full, images = evaluate(tiny, [eval_sets[which]]), eval_sets[which].samples
    both = evaluate(tiny, [marked(eval_sets[which], [i in kept for i in range(images)])])
    count, subset = len(full.scores), evaluate(tiny, [alone(eval_sets[which], kept)])
    assert both.scores[:count] == full.scores
    assert [(s.metric, s.value, s.samples) for s in both.scores[count:]] == [
        (f"{s.metric}_clean", s.value, len(kept)) for s in subset.scores
    ]


def test_clean_scores_cost_no_image_more_and_stay_out_of_the_summaries(tiny, eval_sets, decoded):
    report = evaluate(tiny, [marked(eval_sets[0], [True] * 6 + [False] * 6)])
    assert sum(decoded) == 12
    assert primary(report) == {"first": values(report)["first", "accuracy_top1"]}


def test_a_set_that_leaked_whole_has_no_clean_scores_and_says_so(tiny, eval_sets, caplog):
    report = evaluate(tiny, [marked(eval_sets[1], [False] * 5)])
    assert list(values(report)) == [("second", "accuracy_top1")]
    assert "every image of second was trained on" in caplog.text


def test_sets_named_twice_are_refused(tiny, eval_sets):
    with pytest.raises(ValueError, match="named twice: first"):
        evaluate(tiny, [eval_sets[0], eval_sets[0]])


def test_changed_image_bytes_are_an_error_not_a_score(tiny, tmp_path, eval_sets):
    (tmp_path / "first3.png").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match="first3"):
        evaluate(tiny, eval_sets[:1])
