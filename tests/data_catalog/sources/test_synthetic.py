import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from data_catalog.sources.domains.words import word_bpe
from data_catalog.sources.synthetic import CONTEXT_LENGTH, DOMAINS, MARKER, Synthetic

SMALL = Synthetic(pretraining_images=12, adaptation_images=30, test_images=6)


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("family") / "demo"
    SMALL.generate(root)
    return root


def metadata(root: Path, name: str, split: str) -> dict:
    return json.loads((root / f"{name}_{split}.json").read_text())


def images(root: Path, name: str) -> dict[str, bytes]:
    """Bytes by key, from the tar or from the folder."""
    if (root / name).is_dir():
        return {str(path.relative_to(root / name)): path.read_bytes() for path in (root / name).rglob("*.*")}
    with tarfile.open(root / f"{name}.tar") as tar:
        return {member.name.removeprefix(f"{name}/"): tar.extractfile(member).read() for member in tar}


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.*")}


def all_texts(root: Path) -> set[str]:
    entries = [
        entry for d in DOMAINS for split in ("train", "test") for entry in metadata(root, d.name, split).values()
    ]
    values = [value for entry in entries for key, value in entry.items() if key.endswith("_caption") and value]
    return {text for value in values for text in ([value] if isinstance(value, str) else value)}


def test_metadata_and_images_name_the_same_keys(family):
    for domain in DOMAINS:
        described = metadata(family, domain.name, "train") | metadata(family, domain.name, "test")
        assert described.keys() == images(family, domain.name).keys()


def test_every_entry_has_the_six_keys_and_its_class_name_by_number(family):
    keys = {"classname", "target", "default_caption", "primer_caption", "synthetic_caption", "synthetic_merged_caption"}
    for domain in DOMAINS:
        for entry in metadata(family, domain.name, "train").values():
            assert entry.keys() == keys
            assert entry["classname"] == (domain.classes[entry["target"]] if domain.classes else None)


def test_a_primer_is_the_template_with_the_class_name(family):
    for domain in DOMAINS:
        for entry in metadata(family, domain.name, "train").values():
            filled = domain.prompt_template.format(entry["classname"])
            assert entry["primer_caption"] == (None if domain.kind == "retrieval" else filled)


def test_images_are_32_pixels_in_both_formats(family):
    opened = [Image.open(io.BytesIO(data)) for domain in DOMAINS for data in images(family, domain.name).values()]
    assert {image.size for image in opened} == {(32, 32)}
    assert {image.format for image in opened} == {"PNG", "JPEG"}


def test_one_dataset_is_a_plain_folder_and_the_others_are_tars(family):
    assert [domain.name for domain in DOMAINS if (family / domain.name).is_dir()] == ["FRUITS"]
    assert len(list(family.glob("*.tar"))) == len(DOMAINS) - 1


def test_a_stream_holds_every_adaptation_concept_once(family):
    wanted = {f"{d.name}+++{name}" for d in DOMAINS if d.role == "adaptation" for name in d.classes}
    for name in ("stream_random_1", "stream_dataset_by_dataset"):
        stream = json.loads((family / f"{name}.json").read_text())
        assert len(stream) == len(wanted) and set(stream) == wanted


def test_no_class_name_of_the_stream_is_a_class_name_of_the_pretraining():
    names = {
        role: {name.lower() for d in DOMAINS if d.role == role for name in d.classes}
        for role in ("adaptation", "retention")
    }
    assert not names["adaptation"] & names["retention"]


def test_no_real_digit_is_in_both_splits(tmp_path):
    everything = Synthetic(pretraining_images=1, adaptation_images=2000, test_images=300)
    digits = next(domain for domain in DOMAINS if domain.name == "DIGITS")
    assert everything._counts(digits) == {"train": 1497, "test": 300}
    rows = [everything._rows(digits, split, count).tolist() for split, count in everything._counts(digits).items()]
    assert sorted(rows[0] + rows[1]) == list(range(1797))


def test_another_folder_gets_the_same_bytes(family, tmp_path):
    SMALL.generate(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(family)


def test_another_seed_draws_other_pictures(family, tmp_path):
    SMALL.model_copy(update={"seed": 1}).generate(tmp_path / "other")
    assert not set(images(family, "SHAPES").values()) & set(images(tmp_path / "other", "SHAPES").values())


def test_a_second_call_touches_nothing(family):
    before = (family / MARKER).stat().st_mtime_ns, family.stat().st_mtime_ns
    SMALL.generate(family)
    assert before == ((family / MARKER).stat().st_mtime_ns, family.stat().st_mtime_ns)


def test_a_folder_of_another_spec_is_refused(family):
    with pytest.raises(ValueError, match="holds another family"):
        SMALL.model_copy(update={"seed": 7}).generate(family)


def test_a_folder_with_foreign_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not generated"):
        SMALL.generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_crash_leaves_no_half_family(tmp_path, monkeypatch):
    monkeypatch.setattr("data_catalog.sources.synthetic.word_bpe", lambda words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        SMALL.generate(tmp_path / "demo")
    assert not list(tmp_path.iterdir())


def test_every_word_of_the_family_is_one_token(family):
    tokenizer = SimpleTokenizer(bpe_path=str(family / "model" / "bpe.txt.gz"), context_length=CONTEXT_LENGTH)
    words = {
        word for text in all_texts(family) for word in "".join(c if c.isalpha() else " " for c in text.lower()).split()
    }
    assert len(words) > 150
    assert [word for word in sorted(words) if len(tokenizer.encode(word)) != 1] == []


def test_every_caption_fits_the_context(family):
    tokenizer = SimpleTokenizer(bpe_path=str(family / "model" / "bpe.txt.gz"), context_length=CONTEXT_LENGTH)
    assert max(len(tokenizer.encode(text)) + 2 for text in all_texts(family)) <= CONTEXT_LENGTH


def test_the_model_config_has_a_row_for_every_token(family):
    config = json.loads((family / "model" / "open_clip_config.json").read_text())["model_cfg"]
    tokenizer = SimpleTokenizer(bpe_path=str(family / "model" / "bpe.txt.gz"))
    assert config["text_cfg"]["vocab_size"] == tokenizer.eot_token_id + 1


@pytest.mark.parametrize("words", [["a"], ["ab", "b"], ["abab", "ab", "bab"], ["an", "banana", "nana", "ban"]])
def test_words_within_words_stay_one_token(words, tmp_path):
    path = tmp_path / "bpe.txt.gz"
    data, vocab_size = word_bpe(words)
    path.write_bytes(data)
    tokenizer = SimpleTokenizer(bpe_path=str(path))
    assert [len(tokenizer.encode(word)) for word in words] == [1] * len(words)
    assert vocab_size == tokenizer.eot_token_id + 1
