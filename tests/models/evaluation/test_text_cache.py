import pytest
import torch
import torch.nn.functional as F

from data_catalog import store
from models import clip, embeddings
from models.checkpoints import load, save
from models.embeddings import embed_texts
from models.evaluation import text_cache
from models.evaluation.text_cache import text_vectors
from tests.models.evaluation.made_sets import PROMPTS, of_rows

ROW = [{"target": 0}]


@pytest.fixture
def asked(tiny):
    """How often a model was built, and the function that does it."""
    built = []
    return built, lambda: built.append(1) or clip.build(tiny)


def of_texts(texts, name="some", kind="classification"):
    return of_rows(name, kind, texts, ROW)


def test_vectors_are_those_of_the_texts(tiny, asked):
    expected = embed_texts(clip.build(tiny), tiny.backbone, PROMPTS)
    assert torch.equal(text_vectors(tiny, [of_texts(PROMPTS)], asked[1])["some"], expected)


def test_what_one_set_has_embedded_no_other_embeds_again(tiny, asked):
    first = text_vectors(tiny, [of_texts(PROMPTS)], asked[1])["some"]
    second = text_vectors(tiny, [of_texts(PROMPTS, "other"), of_texts(PROMPTS, "third")], asked[1])
    assert len(asked[0]) == 1 and torch.equal(second["other"], first) and torch.equal(second["third"], first)


def test_a_checkpoint_with_the_same_text_tower_embeds_nothing(tiny, asked):
    other = save({n: w * (2 if n.startswith("visual") else 1) for n, w in load(tiny).items()}, tiny.backbone)
    text_vectors(tiny, [of_texts(PROMPTS)], asked[1])
    text_vectors(other, [of_texts(PROMPTS)], asked[1])
    assert len(asked[0]) == 1


def test_another_text_tower_embeds_its_own(tiny, asked):
    other = save({n: w * (2 if n.startswith("token") else 1) for n, w in load(tiny).items()}, tiny.backbone)
    one = text_vectors(tiny, [of_texts(PROMPTS)], asked[1])["some"]
    two = text_vectors(other, [of_texts(PROMPTS)], lambda: clip.build(other))["some"]
    assert not torch.equal(one, two)


def test_vectors_of_another_kind_of_device_are_not_taken(tiny, asked, monkeypatch):
    text_vectors(tiny, [of_texts(PROMPTS)], asked[1])
    monkeypatch.setattr(embeddings, "device_kind", lambda: "another")
    text_vectors(tiny, [of_texts(PROMPTS)], asked[1])
    assert len(asked[0]) == 2


def test_vectors_that_are_gone_are_made_again(tiny, asked):
    first = text_vectors(tiny, [of_texts(PROMPTS)], asked[1])["some"]
    for digest in [*store.stored_digests()]:
        if any(origin.get("stage") == "embed texts" for origin in store.origins(digest)):
            store.locate(digest).write_bytes(b"damaged")
    assert torch.equal(text_vectors(tiny, [of_texts(PROMPTS)], asked[1])["some"], first) and len(asked[0]) == 2


def test_several_prompts_of_a_class_stand_for_it_as_their_mean(tiny, asked):
    found = text_vectors(tiny, [of_texts([PROMPTS[:2], "a photo", [PROMPTS[2]]])], asked[1])["some"]
    red, green, photo, blue = embed_texts(clip.build(tiny), tiny.backbone, [*PROMPTS[:2], "a photo", PROMPTS[2]])
    torch.testing.assert_close(found[0], F.normalize((red + green) / 2, dim=0))
    assert torch.equal(found[1], photo) and torch.equal(found[2], blue)


def test_vectors_that_are_not_finite_are_not_kept(tiny, asked):
    broken = save({name: torch.full_like(weight, torch.nan) for name, weight in load(tiny).items()}, tiny.backbone)
    for _ in range(2):
        found = text_vectors(broken, [of_texts(PROMPTS)], lambda: asked[0].append(1) or clip.build(broken))
        assert not found["some"].isfinite().any()
    assert len(asked[0]) == 2


def test_texts_are_tokenized_once_whatever_the_weights(tiny, asked, monkeypatch):
    other = save({n: w * (2 if n.startswith("token") else 1) for n, w in load(tiny).items()}, tiny.backbone)
    texts = of_texts([PROMPTS[:2], "a photo of a red and green and blue square"])
    text_vectors(tiny, [texts], asked[1])
    with monkeypatch.context() as patch:
        patch.setattr(clip, "tokenizer", lambda backbone: pytest.fail("texts were tokenized again"))
        found = text_vectors(other, [texts], lambda: clip.build(other))["some"]
    expected = embed_texts(clip.build(other), other.backbone, ["a photo of a red and green and blue square"])
    assert torch.equal(found[1:], expected)


def test_parts_that_span_sets_change_nothing(tiny, asked, monkeypatch):
    sets = [of_texts([f"{word} {i}" for i in range(9)], word) for word in ("red", "green")]
    sets.append(of_texts([[f"a {i}", f"the {i}"] for i in range(5)], "both"))
    whole = text_vectors(tiny, sets, asked[1])
    monkeypatch.setattr(text_cache, "REVISION", -1)  # nothing kept counts
    monkeypatch.setattr(text_cache, "_AT_ONCE", 4)
    parts = text_vectors(tiny, sets, asked[1])
    assert len(asked[0]) == 2 and all(torch.equal(whole[name], parts[name]) for name in whole)
