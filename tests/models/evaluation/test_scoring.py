import json
import math

import pyarrow as pa
import pytest
import torch

from data_catalog import places, store
from models import clip, embeddings
from models.checkpoints import load, save
from models.evaluation import kept_scores, scoring
from models.evaluation.probe import Probe
from models.evaluation.scores import primary
from models.evaluation.scoring import evaluate, evaluate_lists, evaluate_many
from tests.models.evaluation.made_sets import PROMPTS, made_set, of_rows, three_sets


@pytest.fixture
def eval_sets(tmp_path):
    return three_sets(tmp_path)


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
    assert list(dict.fromkeys(score.dataset for score in report.scores)) == ["first", "second", "pairs"]
    assert list(primary(report)) == list(report.outcomes) == ["first", "second", "pairs"]
    assert {score.dataset: score.samples for score in report.scores} == {"first": 12, "second": 5, "pairs": 4}


def test_progress_ends_at_the_last_image(tiny, eval_sets):
    told = []
    evaluate_many([tiny], eval_sets, batch_size=5, progress=lambda *report: told.append(report))
    assert told == sorted(told) and told[-1][0] == told[-1][1] > 0


def test_accuracy_is_that_of_the_plain_computation(tiny, eval_sets):
    model, rows = clip.build(tiny), store.read_table(eval_sets[0].digest)
    images = embeddings.centred_images(rows, clip.preprocessing(tiny.backbone).size)
    with torch.inference_mode():
        features = model.encode_image(clip.normalise(images, tiny.backbone), normalize=True)
        classes = model.encode_text(clip.tokenizer(tiny.backbone)(PROMPTS), normalize=True)
    expected = ((features @ classes.T).argmax(1) == torch.tensor(rows["target"].to_pylist())).float().mean()
    assert values(evaluate(tiny, eval_sets))["first", "accuracy_top1"] == pytest.approx(float(expected))


def test_neither_batches_nor_workers_change_a_digit(tiny, eval_sets, monkeypatch):
    whole = evaluate(tiny, eval_sets)
    monkeypatch.setattr(kept_scores, "REVISION", -1)  # nothing kept counts
    assert evaluate_many([tiny], eval_sets, batch_size=5, workers=3) == [whole]


def test_every_image_is_decoded_once_for_all_sets_and_checkpoints(tiny, tiny_folder, eval_sets, decoded):
    again = eval_sets[0].model_copy(update={"name": "again"})
    evaluate_many([tiny, clip.initialise(str(tiny_folder), seed=1)], [*eval_sets, again], batch_size=8)
    assert sum(decoded) == 12 + 5 + 4


def test_a_subset_and_its_whole_set_score_together_as_they_do_alone(tiny, eval_sets, decoded, monkeypatch):
    rows = store.read_table(eval_sets[0].digest).take([1, 4, 5, 9]).to_pylist()
    subset = of_rows("first", "classification", PROMPTS, rows)
    lists = [subset, eval_sets[2]], [eval_sets[0], eval_sets[2]]
    together = evaluate_lists(tiny, lists, batch_size=5)
    assert sum(decoded) == 12 + 4
    monkeypatch.setattr(kept_scores, "REVISION", -1)  # nothing kept counts
    assert together == [evaluate(tiny, some) for some in lists] and together[0].outcomes != together[1].outcomes


def test_checkpoints_score_together_as_they_do_alone(tiny, tiny_folder, eval_sets, monkeypatch):
    checkpoints = [tiny, clip.initialise(str(tiny_folder), seed=1), tiny]
    together = evaluate_many(checkpoints, eval_sets)
    monkeypatch.setattr(kept_scores, "REVISION", -1)  # nothing kept counts
    assert [evaluate(checkpoint, eval_sets) for checkpoint in checkpoints] == together
    assert together[0] != together[1]


def test_one_image_tower_is_run_once_for_all_its_texts(tiny, eval_sets, monkeypatch):
    other = save({n: w * (2 if n.startswith("token") else 1) for n, w in load(tiny).items()}, tiny.backbone)
    blocks, embed = [], embeddings.embed_pixels
    monkeypatch.setattr(embeddings, "embed_pixels", lambda *job: blocks.append(job) or embed(*job))
    one, two = evaluate_many([tiny, other], eval_sets)
    assert len(blocks) == 1 and one.outcomes != two.outcomes


def test_models_of_different_image_sizes_are_scored_as_alone(tiny, tiny_folder, eval_sets, monkeypatch):
    config = json.loads((tiny_folder / clip.CONFIG_FILE).read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = config["preprocess_cfg"]["size"] = 24
    (tiny_folder / clip.CONFIG_FILE).write_text(json.dumps(config))
    checkpoints = [tiny, clip.initialise(str(tiny_folder), seed=0)]
    together = evaluate_many(checkpoints, eval_sets)
    monkeypatch.setattr(kept_scores, "REVISION", -1)  # nothing kept counts
    assert together == [evaluate(some, eval_sets) for some in checkpoints]


def test_more_weights_than_fit_take_another_pass(tiny, tiny_folder, eval_sets, decoded, monkeypatch):
    checkpoints = [tiny, clip.initialise(str(tiny_folder), seed=1)]
    together = evaluate_many(checkpoints, eval_sets[:1])
    monkeypatch.setattr(kept_scores, "REVISION", -1)
    monkeypatch.setattr(scoring, "MOST_WEIGHTS", 1)
    decoded.clear()
    assert evaluate_many(checkpoints, eval_sets[:1]) == together and sum(decoded) == 2 * 12


def test_a_machine_of_little_memory_takes_more_passes(tiny, tiny_folder, eval_sets, decoded, monkeypatch):
    monkeypatch.setattr(scoring.os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 10)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40960, 40960))
    evaluate_many([tiny, clip.initialise(str(tiny_folder), seed=1)], eval_sets[:1])
    assert sum(decoded) == 2 * 12


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


def test_outcomes_that_are_gone_are_made_again(tiny, eval_sets, decoded):
    report = evaluate(tiny, eval_sets[:1])
    store.locate(report.outcomes["first"]).unlink()
    assert evaluate(tiny, eval_sets[:1]) == report and sum(decoded) == 2 * 12


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
    broken = {name: weight * (torch.nan if name.startswith("visual") else 1) for name, weight in load(tiny).items()}
    with pytest.raises(ValueError, match="not finite on first"):
        evaluate(save(broken, tiny.backbone), eval_sets[:1])


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, 1000.0, 89.0])
def test_a_diverged_temperature_is_refused_by_name(tiny, eval_sets, scale):
    broken = {name: torch.tensor(scale) if name == "logit_scale" else weight for name, weight in load(tiny).items()}
    with pytest.raises(ValueError, match=f"has the logit scale {scale:g}, expected finite ones"):
        evaluate(save(broken, tiny.backbone), eval_sets[:1])


def test_target_without_a_class_is_refused(tiny, tmp_path, eval_sets):
    wrong = made_set(tmp_path, "wrong", "classification", PROMPTS, [0, 3])
    with pytest.raises(ValueError, match="wrong has targets outside its 3 classes"):
        evaluate(tiny, [wrong])


def marked(eval_set, clean):
    """`eval_set` with a mark on each image: whether it is clean."""
    table = store.read_table(eval_set.digest).append_column("clean", pa.array(clean))
    return eval_set.model_copy(update={"digest": store.write_table(table)})


def alone(eval_set, kept):
    """The images at the positions `kept` as a set of their own."""
    rows = store.read_table(eval_set.digest).take(kept).to_pylist()
    return of_rows("alone", eval_set.kind, json.loads(store.read_bytes(eval_set.texts)), rows)


@pytest.mark.parametrize("which, kept", [(0, [0, 1, 4, 9, 11]), (1, [3])])
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
    assert not any(score.metric.endswith("_clean") for score in report.scores)
    assert "every image of second was trained on" in caplog.text


def test_sets_named_twice_are_refused(tiny, eval_sets):
    with pytest.raises(ValueError, match="named twice: first"):
        evaluate(tiny, [eval_sets[0], eval_sets[0]])


def test_changed_image_bytes_are_an_error_not_a_score(tiny, tmp_path, eval_sets):
    (tmp_path / "first3.png").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match="first3"):
        evaluate(tiny, eval_sets[:1])


def test_a_linear_probe_is_fitted_to_the_training_images_of_its_set(tiny, tmp_path, eval_sets):
    training = made_set(tmp_path, "train", "classification", PROMPTS, [0, 1, 2] * 20).model_copy(
        update={"name": "first"}
    )
    (report,) = evaluate_many([tiny], eval_sets[:2], Probe(l2=(1e-6,)), [training])
    assert {name: value for name, value in values(report).items() if name[1] == "accuracy_linear_probe"} == {
        ("first", "accuracy_linear_probe"): 1.0
    }
    assert primary(report) == primary(evaluate(tiny, eval_sets[:2]))


def test_a_probe_of_the_images_it_is_scored_on_is_refused(tiny, eval_sets):
    with pytest.raises(ValueError, match="fitted to the images it is scored on"):
        evaluate_many([tiny], eval_sets[:1], Probe(), eval_sets[:1])


def test_a_probe_of_too_few_images_is_refused_before_any_is_decoded(tiny, tmp_path, eval_sets, decoded):
    training = made_set(tmp_path, "train", "classification", PROMPTS, [0]).model_copy(update={"name": "first"})
    with pytest.raises(ValueError, match="first has 1 training image"):
        evaluate_many([tiny], eval_sets[:1], Probe(), [training])
    assert not decoded


def test_an_image_without_text_is_refused_before_any_is_decoded(tiny, tmp_path, eval_sets, decoded):
    silent = made_set(tmp_path, "silent", "retrieval", ["a photo"], [0, 0], [(0, 1), (1, 1)])
    with pytest.raises(ValueError, match="1 of 2 images of silent have no text, the first at position 1"):
        evaluate(tiny, [silent])
    assert not decoded
