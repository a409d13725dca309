"""Captioners as configuration: what a YAML file may say, and what of it decides a cached result."""

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from data_catalog.captions import CaptionPolicy
from models.captioning import AnyCaptioner
from tasks.caption import caption_dataset

ADAPTER = TypeAdapter(AnyCaptioner)
SHOWN = """
- {kind: template}
- {kind: captioner, model: Salesforce/blip2-flan-t5-xl, revision: "0123456789abcdef0123456789abcdef01234567",
   prompt: a photo of, dtype: bfloat16, batch_size: 32, images: without_text}
- {kind: captioner, model: ~/models/blip, temperature: 0.7, captions_per_image: 3}
- kind: fusion
  seeds: {kind: captioner, model: ~/models/blip2}
  writer: {kind: local, model: ~/models/instruct, batch_size: 32, dtype: bfloat16}
- kind: fusion
  seeds: {kind: shipped, captions: synthetic}
  writer: {kind: openai, base_url: "http://localhost:8000/v1", model: some-instruct-model, key_variable: MY_API_KEY,
           concurrency: 16, price_in: 0.15, price_out: 0.6}
"""
POLICIES = """
- {}
- {choice: {kind: weighted, weights: {template: 0.2, synthetic_merged: 0.8}}}
- {prefer: [fusion, default], choice: {kind: first}, filter: {leaks: drop, fallbacks: drop}, otherwise: [template]}
- {choice: {kind: best}, filter: {min_words: 3, max_words: 60, min_clip_score: 0.2}}
"""


@pytest.mark.parametrize("raw", yaml.safe_load(SHOWN))
def test_a_captioner_comes_back_whole_from_its_configuration(raw):
    captioner = ADAPTER.validate_python(raw)
    assert ADAPTER.validate_json(captioner.model_dump_json()) == captioner


@pytest.mark.parametrize("raw", yaml.safe_load(POLICIES))
def test_a_policy_comes_back_whole_from_its_configuration(raw):
    policy = CaptionPolicy.model_validate(raw)
    assert CaptionPolicy.model_validate_json(policy.model_dump_json()) == policy


def test_an_unknown_kind_lists_what_there_is():
    with pytest.raises(ValidationError, match="'template', 'captioner', 'fusion'"):
        ADAPTER.validate_python({"kind": "blip"})


def test_the_cached_result_does_not_depend_on_where_the_model_lies(pictures):
    captioner = ADAPTER.validate_python({"kind": "captioner", "model": "a/b", "revision": "0" * 40})
    moved = captioner.model_copy(update={"model": "/elsewhere/b", "device": "cpu"})
    keys = []
    for one, identity in ((captioner, "same"), (moved, "same"), (captioner, "other")):
        stage = caption_dataset.cache_policy.stage
        keys.append(stage.key(stage.fingerprint(stage.bound((pictures(1), one, identity), {}))))
    assert keys[0] == keys[1] != keys[2]
