"""What is exported is the same model: equal features, tokens and pixels, or a refusal that says why."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from models import clip, exporting, hugging_face_layout, hugging_face_processor
from models.hugging_face_layout import to_hugging_face
from models.hugging_face_processor import PROBES
from tests.models.families import FAMILIES, features, write_family

CONVERTED = ["packed vit", "quick gelu", "own text tower apart"]


@pytest.fixture
def family(tmp_path):
    return lambda name: clip.import_checkpoint(write_family(name, tmp_path / "family"))


def siglip(**changes):
    """SigLIP as OpenCLIP builds it, with an image tower of two layers."""
    import timm

    text = FAMILIES["siglip"]["text_cfg"] | {"hf_tokenizer_name": None} | changes
    vision = {"timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"}
    with torch.random.fork_rng(), torch.device("meta"):
        whole = open_clip.CustomTextCLIP(embed_dim=32, vision_cfg=vision, text_cfg=text, init_logit_bias=-10)
    whole.text = open_clip.model._build_text_tower(32, text)
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    whole.visual.trunk = timm.models.VisionTransformer(**size, class_token=False, global_pool="map", num_classes=0)
    whole.logit_scale, whole.logit_bias = torch.nn.Parameter(torch.ones([])), torch.nn.Parameter(-torch.ones([]))
    for tensor in whole.parameters():
        torch.nn.init.normal_(tensor, std=0.2)
    return whole.eval()


@pytest.mark.parametrize("name", CONVERTED)
def test_transformers_loads_the_same_model(family, tmp_path, name):
    from transformers import CLIPModel

    checkpoint = family(name)
    exporting.export(checkpoint, tmp_path / "out", "hugging_face", {})
    tokens = clip.tokenizer(checkpoint.backbone)(PROBES)
    ours = features(clip.build(checkpoint), tokens)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs = hugging_face_layout.features(CLIPModel.from_pretrained(tmp_path / "out"), images, tokens)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


def test_the_processor_of_transformers_prepares_the_same_inputs(family, tmp_path):
    from transformers import CLIPProcessor

    checkpoint = family("packed vit")
    exporting.export(checkpoint, tmp_path / "hf", "hugging_face", {})
    exporting.export(checkpoint, tmp_path / "oc", "open_clip", {})
    _, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'oc'}")
    loaded = CLIPProcessor.from_pretrained(tmp_path / "hf", backend="pil")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8))
    made = loaded(images=image, text=["a photo, of RED"], return_tensors="pt")
    torch.testing.assert_close(made["pixel_values"][0], prepare(image))
    ours = clip.tokenizer(checkpoint.backbone)(["a photo, of RED"])[0]
    assert made["input_ids"][0].tolist() == ours[: made["input_ids"].shape[1]].tolist()


def test_siglip_has_a_layout_of_its_own():
    module, tokens = siglip(), torch.randint(0, 64, (3, 12))
    with torch.no_grad():
        made = to_hugging_face(module, tokens)
    assert type(made).__name__ == "SiglipModel" and made.logit_bias.item() == module.logit_bias.item()


def test_siglip_with_masked_padding_is_refused_by_its_features():
    with pytest.raises(ValueError, match=r"features of texts come out .* apart"):
        to_hugging_face(siglip(no_causal_mask=False), torch.randint(0, 64, (3, 12)))


@pytest.mark.parametrize("name", ["resnet", "convnext", "roberta", "coca", "siglip"])
def test_what_transformers_has_no_place_for_is_refused_and_nothing_is_left(family, tmp_path, name):
    checkpoint = family(name)
    with pytest.raises(ValueError, match=r"no Hugging Face layout.*--layout open_clip"):
        exporting.export(checkpoint, tmp_path / "out", "hugging_face", {})
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_tensors_in_the_wrong_place_are_seen(tiny, monkeypatch):
    monkeypatch.setattr(hugging_face_layout, "_ATTENTION", ("k_proj", "v_proj", "q_proj"))
    with pytest.raises(ValueError, match="features of images come out"):
        to_hugging_face(clip.build(tiny), clip.tokenizer(tiny.backbone)(PROBES))


def test_a_borrowed_tokenizer_cleans_as_openclip_does(family):
    backbone = family("siglip").backbone
    files = clip.read_description(backbone)["hugging_face"]["tokenizer"]
    encode = clip.tokenizer(backbone)
    hugging_face_processor.check_equal_tokens(
        hugging_face_processor.borrowed_tokenizer(files, "canonicalize", 12), encode
    )
    with pytest.raises(ValueError, match="no Hugging Face layout"):
        plain = hugging_face_processor.borrowed_tokenizer(files, "whitespace", 12)
        hugging_face_processor.check_equal_tokens(plain, lambda texts: encode([text.upper() for text in texts]) + 1)


def test_openclip_loads_the_same_model_where_it_was_written_to(tiny, tmp_path):
    files = exporting.export(tiny, tmp_path / "out", "open_clip", {exporting.CARD: "# card"})
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(["a photo of red"])
    with torch.no_grad():
        assert torch.equal(model.eval().encode_text(tokens), clip.build(tiny).encode_text(tokens))
    assert {exporting.CARD, clip.CONFIG_FILE, "open_clip_model.safetensors"} <= set(files)


def test_a_folder_that_holds_anything_is_left_as_it_is(tiny, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not empty"):
        exporting.export(tiny, tmp_path, "open_clip", {})
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_a_checkpoint_is_exported_into_an_empty_folder_and_never_as_a_link_into_the_store(tiny, tmp_path):
    from data_catalog.store import locate

    (tmp_path / "out").mkdir()
    exporting.export(tiny, tmp_path / "out", "open_clip", {})
    weights = tmp_path / "out" / "open_clip_model.safetensors"
    assert weights.read_bytes() == locate(tiny.digest).read_bytes() and not weights.samefile(locate(tiny.digest))


def test_a_summary_names_tower_tokenizer_and_preprocessing(tiny):
    told = exporting.summary(tiny.backbone)
    assert "16" in told["image_tower"] and told["tokenizer"].startswith("OpenCLIP SimpleTokenizer")
    assert told["preprocessing"]["size"] == 16 and told["context_length"] == 16
