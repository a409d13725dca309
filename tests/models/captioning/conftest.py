"""Tiny models with random weights, saved as the real ones are and loaded through the same code; images to caption."""

import io
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from data_catalog import store
from data_catalog.places import register_source
from data_catalog.shards import SAMPLES, DatasetFacts, DatasetRef, with_facts

WORDS = "a photo of the cat dog red green small big sits on mat one sentence describe this image name draft"
CHAT = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
PICTURE_CHAT = (
    "{% for m in messages %}<s>{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
)


def tokenizer(**special):
    """A byte-level BPE over a few words."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    tokens = ["<s>", "</s>", "<pad>", "<unk>", *special.get("extra_special_tokens", [])]
    bpe.train_from_iterator([WORDS] * 4, vocab_size=340, special_tokens=tokens, show_progress=False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"} | special
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **names)


def blip_2(folder, text_config):
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor
    from transformers import Blip2QFormerConfig as QFormer
    from transformers import Blip2VisionConfig as Vision

    words = tokenizer(padding_side="left")
    processor = Blip2Processor(BlipImageProcessor(size={"height": 32, "width": 32}), words, num_query_tokens=4)
    text = text_config(len(words))
    torch.manual_seed(1)
    config = Blip2Config(
        vision_config=Vision(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                             image_size=32, patch_size=16),
        qformer_config=QFormer(vocab_size=len(words), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                               num_attention_heads=2, encoder_hidden_size=32),
        text_config=text, num_query_tokens=4, image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def blip_2_opt(folder):
    from transformers import OPTConfig

    blip_2(folder, lambda size: OPTConfig(
        vocab_size=size, hidden_size=32, word_embed_proj_dim=32, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=2, tie_word_embeddings=False,
        init_std=0.5))  # fmt: skip


def blip_2_t5(folder):
    from transformers import T5Config

    blip_2(folder, lambda size: T5Config(
        vocab_size=size, d_model=32, d_ff=32, d_kv=16, num_layers=1, num_heads=2, decoder_start_token_id=2,
        bos_token_id=0, eos_token_id=1, pad_token_id=2))  # fmt: skip


def blip_1(folder):
    from tokenizers.processors import TemplateProcessing
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor
    from transformers import BlipTextConfig as Text
    from transformers import BlipVisionConfig as Vision

    words = tokenizer(bos_token="[DEC]", sep_token="</s>", cls_token="<s>")
    frame = [("<s>", words.cls_token_id), ("</s>", words.sep_token_id)]  # as BERT's; generation relies on it
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=frame)
    torch.manual_seed(1)
    config = BlipConfig(
        text_config=Text(vocab_size=len(words), hidden_size=32, encoder_hidden_size=32, intermediate_size=32,
                         num_hidden_layers=1, num_attention_heads=2, bos_token_id=words.bos_token_id,
                         eos_token_id=1, sep_token_id=1, pad_token_id=2).to_dict(),
        vision_config=Vision(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                             image_size=32, patch_size=16).to_dict(),
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), words).save_pretrained(folder)


def llava(folder):
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer(extra_special_tokens={"image_token": "<image>"})
    torch.manual_seed(1)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                                       image_size=32, patch_size=16, projection_dim=32),
        text_config=llama_config(len(words)), image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        pictures, words, patch_size=16, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=PICTURE_CHAT,
    ).save_pretrained(folder)  # fmt: skip


def llama_config(size):
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip


def llama(folder, **options):
    from transformers import LlamaForCausalLM

    words = tokenizer(**options)
    torch.manual_seed(1)
    model = LlamaForCausalLM(llama_config(len(words)))
    model.generation_config.eos_token_id = list(range(1, 340, 3))  # so that random answers come to an end
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def llama_chat(folder):
    llama(folder, chat_template=CHAT)


BUILDERS = {build.__name__: build for build in (blip_2_opt, blip_2_t5, blip_1, llava, llama, llama_chat)}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A function from the name of a builder above to the folder it filled, once per session."""
    built = {}

    def folder(name):
        if name not in built:
            built[name] = tmp_path_factory.mktemp(name)
            BUILDERS[name](built[name])
        return str(built[name])

    return folder


@pytest.fixture
def pictures(tmp_path):
    """A function that makes a dataset of `n` small images, the first twice, of two classes, with drafts."""

    def make(n=6, first=0, name="PETS"):
        root = tmp_path / "pets"
        root.mkdir(exist_ok=True)
        register_source("pets", root)
        return dataset(root, list(range(first, first + n)), name)

    return make


def dataset(root, numbers, name):
    rows = []
    for place, number in enumerate([*numbers, numbers[0]]):
        noise = np.random.default_rng(number).integers(0, 255, (24 + number % 3, 28, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer := io.BytesIO(), format="PNG")
        data = buffer.getvalue()
        (root / f"{number}.png").write_bytes(data)
        rows.append(dict.fromkeys(SAMPLES.names) | {
            "id": f"{name}/train/{place}", "dataset": name, "split": "train", "concept": ["big_cat", "dog"][number % 2],
            "target": number % 2, "shard": f"pets/{number}.png", "offset": 0, "length": len(data),
            "hash": sha256(data).digest(), "synthetic_caption": [f"draft {number}"],
        })  # fmt: skip
    facts = DatasetFacts(name=name, kind="classification", prompt_template="a photo of a {}",
                         classnames=("big_cat", "dog"), class_name_transform="underscores_to_spaces")  # fmt: skip
    digest = store.write_table(with_facts(pa.Table.from_pylist(rows, SAMPLES), facts))
    return DatasetRef(digest=digest, name=name, samples={"train": len(rows)}, kind="classification")
