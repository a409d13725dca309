"""Captions from images, by any image-text-to-text model of the Hugging Face layout: BLIP, BLIP-2, LLaVA, Qwen-VL, ...

The first of the two stages of FoMo-in-Flux (arXiv 2408.14471, appendix), there a BLIP-2 with a T5-XL decoder. Licences,
to be checked on the card of the commit in use: `Salesforce/blip2-flan-t5-xl` is MIT on Apache-2.0 Flan-T5, BLIP-1 is
BSD-3-Clause, Qwen2-VL 2B and 7B and SmolVLM are Apache-2.0; `blip2-opt-*` contains OPT, whose licence is for research.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pydantic import Field, model_validator

from data_catalog.caption_rows import Origin, Texts
from data_catalog.captions import Captioner, Progress, Written
from data_catalog.reading import read_samples
from data_catalog.seeds import seed_of
from data_catalog.shards import DatasetFacts
from data_catalog.sources.images import open_rgb
from models.batches import read_ahead
from models.captioning.pretrained import Loaded, Pretrained, identity, load
from models.captioning.row_memory import Said, answered

REVISION = 2  # raise when the same model would give other texts through this file
CHAT_PROMPT = "Describe this image in one sentence."  # of models that answer questions
MOST_WORKERS = 8  # decoding threads; each has a batch of whole images in memory


class ImageCaptioner(Captioner, Pretrained):
    """Lets a model describe each image, greedily unless `temperature` is above 0; texts are kept row by row."""

    kind: Literal["captioner"] = "captioner"
    splits: Annotated[tuple[str, ...], Field(min_length=1)] | None = ("train",)  # nothing else needs their texts
    prompt: str | None = None  # null: a question for models with a chat template, else none
    max_new_tokens: int = Field(40, ge=1)  # of one text
    captions_per_image: int = Field(1, ge=1)  # more than one needs a `temperature`
    temperature: float = Field(0.0, ge=0)  # 0: the likeliest word at each place
    top_p: float = Field(1.0, gt=0, le=1)  # share of the likeliest words that are drawn from, with a `temperature`
    seed: int = Field(0, ge=0)  # of the draws, with a `temperature`

    @model_validator(mode="after")
    def _has_several_to_give(self) -> "ImageCaptioner":
        if self.captions_per_image > 1 and not self.temperature:
            raise ValueError(
                f"`captions_per_image` is {self.captions_per_image} but with a `temperature` of 0 all of them would be "
                "the same; give a temperature, e.g. 0.7"
            )
        return self

    def id(self) -> str:
        """The kind, and a digest of model, prompt, decoding, precision and batch size."""
        origin = self._origin("")
        return identity(self.kind, {"revision": REVISION, **origin._asdict()})

    def asked_together(self) -> int | None:
        return self.batch_size

    def write(self, known: DatasetFacts, samples: pa.Table, progress: Progress | None = None) -> Written:
        """Up to `captions_per_image` different texts per image; none where the model said nothing."""
        label = f"caption {known.name}"
        keys = _keys(samples)
        answers = answered(self.id(), keys, lambda missing: self._ask(samples, keys, missing), label, progress)
        rows = np.repeat(np.arange(len(answers)), [len(said.texts) for said in answers])
        text = pa.array([text for said in answers for text in said.texts], pa.string())
        silent = sum(not said.texts for said in answers)
        return Written([Texts(self.kind, self._origin(self.id()), rows, text)], {"images_without_answer": silent})

    def _origin(self, captioner: str) -> Origin:
        decoding = ("max_new_tokens", "captions_per_image", "temperature", "top_p", "seed", "dtype", "batch_size")
        settings = {name: getattr(self, name) for name in decoding}
        return Origin(captioner, self.model_identity(), self.prompt, json.dumps(settings, sort_keys=True))

    def _ask(self, samples: pa.Table, keys: list[bytes], missing: list[int]) -> Iterator[list[tuple[int, Said]]]:
        loaded = load(self, "AutoModelForImageTextToText", "AutoProcessor")
        fit_processor(loaded)
        size = 1 if self.temperature else self.batch_size  # sampled alone: its words depend on no other image
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        workers = min(os.cpu_count() or 1, MOST_WORKERS)
        pictures = read_ahead(lambda batch: _pictures(samples.take(pa.array(batch))), batches, workers)
        for batch, images in zip(batches, pictures, strict=True):
            seed = seed_of(self.seed, *(keys[place].hex() for place in batch))
            texts = describe(loaded, images, self, seed)
            yield [(place, Said(tuple(said))) for place, said in zip(batch, texts, strict=True)]


def fit_processor(loaded: Loaded) -> None:
    """Complete what older checkpoints leave out of their processor."""
    processor, config = loaded.processor, loaded.model.config
    if getattr(processor, "num_query_tokens", 0) is None:
        processor.num_query_tokens = config.num_query_tokens
    if not config.is_encoder_decoder and hasattr(processor, "tokenizer"):
        processor.tokenizer.padding_side = "left"  # generation goes on at the right end


@torch.inference_mode()
def describe(loaded: Loaded, images: list[Image.Image], spec: ImageCaptioner, seed: int) -> list[list[str]]:
    """The different texts of each image, none of them empty."""
    inputs = _inputs(loaded, images, spec).to(loaded.model.device, dtype=loaded.model.dtype)
    options: dict[str, Any] = {"do_sample": False}
    if spec.temperature:
        options = {"do_sample": True, "temperature": spec.temperature, "top_p": spec.top_p, "top_k": 0}
    with loaded.turn, _drawing_from(seed, loaded.model.device) if spec.temperature else nullcontext():
        output = loaded.model.generate(
            **inputs, num_beams=1, max_new_tokens=spec.max_new_tokens, num_return_sequences=spec.captions_per_image,
            **options,
        )  # fmt: skip
    texts = _decoded(loaded.processor, inputs.get("input_ids"), output, spec)
    per_image = [texts[i : i + spec.captions_per_image] for i in range(0, len(texts), spec.captions_per_image)]
    return [list(dict.fromkeys(text for text in some if text)) for some in per_image]


def strip_prompt(text: str, prompt: str) -> str:
    """A decoded answer on one line, without the prompt that some models repeat."""
    said, asked = (" ".join(item.replace("<image>", " ").split()) for item in (text, prompt))
    return said[len(asked) :].strip() if said.lower().startswith(asked.lower()) else said


def _inputs(loaded: Loaded, images: list[Image.Image], spec: ImageCaptioner) -> Any:
    processor = loaded.processor
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": spec.prompt or CHAT_PROMPT}]
        question = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return processor(
            images=[[image] for image in images], text=[question] * len(images), return_tensors="pt", padding=True
        )
    text = None if spec.prompt is None else [spec.prompt] * len(images)
    return processor(images=images, text=text, return_tensors="pt", padding=True)


def _decoded(processor: Any, asked: torch.Tensor | None, output: torch.Tensor, spec: ImageCaptioner) -> list[str]:
    """The answers as text. Some models repeat the question, exactly or with a token changed, others do not."""
    if asked is not None and output.shape[1] >= asked.shape[1]:
        repeated = asked.repeat_interleave(spec.captions_per_image, 0)
        if torch.equal(output[:, : asked.shape[1]], repeated):
            output = output[:, asked.shape[1] :]
    texts = processor.batch_decode(output, skip_special_tokens=True)
    return [strip_prompt(text, spec.prompt or "") for text in texts]


def _pictures(rows: pa.Table) -> list[Image.Image]:
    return [_opened(blob, sample) for blob, sample in zip(read_samples(rows), rows["id"].to_pylist(), strict=True)]


def _opened(blob: bytes, sample: str) -> Image.Image:
    try:
        return open_rgb(blob)
    except ValueError as error:
        raise ValueError(f"{sample} cannot be captioned: {error}; ingest it with its images checked") from error


def _keys(samples: pa.Table) -> list[bytes]:
    """What tells images apart: their content, or where they lie if nobody has read them."""
    columns: Iterable[tuple] = zip(*(samples[name].to_pylist() for name in ("hash", "id", "shard", "offset", "length")),
                                   strict=True)  # fmt: skip
    return [content or sha256(repr(place).encode()).digest() for content, *place in columns]


@contextmanager
def _drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators set to `seed` for a while: generation takes no other."""
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
