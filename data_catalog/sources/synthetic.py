"""A family of small image-caption datasets in the benchmark's on-disk format, drawn for the demo and for tests.

Layout and kinds of value follow the released FoMo-in-Flux (arXiv 2408.14471) files, which `fomo_in_flux.py` reads.
"""

import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data_catalog import places
from data_catalog.seeds import rng, seed_of
from data_catalog.sources.base import Candidates, Listing, Source
from data_catalog.sources.domains import broad, designed, nature, sketches, written
from data_catalog.sources.domains.canvas import SIZE, Domain, Picture, sentences, with_articles
from data_catalog.sources.domains.words import word_bpe
from data_catalog.sources.fomo_in_flux import FomoInFlux

DOMAINS: tuple[Domain, ...] = (*broad.DOMAINS, *written.DOMAINS, *designed.DOMAINS, *nature.DOMAINS, *sketches.DOMAINS)
REVISION = 2  # of the drawings and captions: raise it when the same spec would give other files
MARKER = "complete.json"
CONTEXT_LENGTH = 20  # tokens; the longest caption has 18

TINY_CLIP = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 96, "layers": 3, "head_width": 32, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": CONTEXT_LENGTH, "width": 64, "heads": 2, "layers": 1, "mlp_ratio": 2.0},
}
PREPROCESS = {
    "size": SIZE,
    "mode": "RGB",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}

Entry = dict[str, Any]


class Synthetic(Source):
    """The demo's data: broad domains to pretrain on and measure retention with, and domains new to such a model."""

    kind: Literal["synthetic"] = "synthetic"
    name: str = Field("demo", pattern=r"^\w[\w.-]*$")
    seed: int = 0  # of what is drawn
    pretraining_images: int = Field(5000, ge=1)  # per broad domain
    adaptation_images: int = Field(1400, ge=1)  # per adaptation domain; real digits end at 1,797 less the test images
    test_images: int = Field(300, ge=1, le=1500)  # per domain

    def root(self) -> str:
        return str(self._folder())

    def locate(self) -> None:
        self.generate(self._folder())
        super().locate()

    def listings(self) -> list[Listing]:
        self.generate(self._folder())
        return self._written().listings()

    def candidates(self, listing: Listing) -> Candidates:
        return self._written().candidates(listing)

    def _folder(self) -> Path:
        return places.home() / "data" / f"{self.name}-{self.fingerprint()[:12]}"

    def _written(self) -> FomoInFlux:
        return FomoInFlux(name=self.name, data=self.root())

    def fingerprint(self) -> str:
        """Hex digest of everything that decides the bytes, for naming the folder they lie in."""
        return sha256(
            json.dumps([REVISION, self.model_dump(exclude={"name", "check"})], sort_keys=True).encode()
        ).hexdigest()

    def generate(self, root: Path) -> None:
        """Write the whole family under `root`, or do nothing if it is there already.

        Raises ValueError if `root` holds anything else.
        """
        if self._is_complete(root):
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        try:
            self._write(draft)
            draft.chmod(0o755)
            draft.rename(root)
        except OSError:
            if not self._is_complete(root):  # else another process was faster, with the same bytes
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _is_complete(self, root: Path) -> bool:
        marker = root / MARKER
        found = json.loads(marker.read_text())["fingerprint"] if marker.is_file() else None
        if found is None and root.exists() and any(root.iterdir()):
            raise ValueError(f"{root} is not empty and has no {MARKER}, so it was not generated: choose another folder")
        if found not in (None, self.fingerprint()):
            raise ValueError(
                f"{root} holds another family ({found[:12]}, wanted {self.fingerprint()[:12]}): "
                "choose another folder or delete it"
            )
        return found is not None

    def _write(self, root: Path) -> None:
        texts: list[str] = []
        for domain in DOMAINS:
            for split, entries in self._write_images(root, domain).items():
                _write_json(root / f"{domain.name}_{split}.json", entries)
                texts += [text for entry in entries.values() for text in _texts(entry)]
            if domain.classes:
                _write_json(root / f"{domain.name}_classnames.json", list(domain.classes))
            texts += [domain.prompt_template.format(name) for name in domain.classes]
        for name, concepts in self._streams().items():
            _write_json(root / f"{name}.json", concepts)
        _write_json(root / "datasets.json", [_facts(domain) for domain in DOMAINS])
        _write_model(root / "model", texts)
        _write_json(root / MARKER, {"fingerprint": self.fingerprint(), "spec": self.model_dump()})

    def _write_images(self, root: Path, domain: Domain) -> dict[str, dict[str, Entry]]:
        """The metadata of both splits; the images go to one archive or folder."""
        splits: dict[str, dict[str, Entry]] = {}
        with _Archive(root, domain) as archive:
            for split, count in self._counts(domain).items():
                splits[split] = {}
                for index, (label, picture, random) in enumerate(self._pictures(domain, split, count)):
                    group = _slug(domain.classes[label]) if domain.classes else "images"
                    key = f"{split}/{group}/{index:05d}.{domain.suffix}"
                    archive.add(key, _encoded(picture, domain.suffix))
                    splits[split][key] = _entry(domain, label if domain.classes else index, picture, random)
        return splits

    def _counts(self, domain: Domain) -> dict[str, int]:
        wanted = self.adaptation_images if domain.role == "adaptation" else self.pretraining_images
        if domain.stock:
            wanted = min(wanted, len(domain.stock()[1]) - self.test_images)
        return {"train": wanted, "test": self.test_images}

    def _pictures(self, domain: Domain, split: str, count: int) -> Iterator[tuple[int, Picture, Random]]:
        """Class, picture, and the randomness that is left for its captions."""
        random = Random(seed_of(self.seed, "synthetic", domain.name, split))
        if domain.stock:
            targets = domain.stock()[1]
            rows = self._rows(domain, split, count).tolist()
            yield from ((int(targets[row]), domain.draw(random, row), random) for row in rows)
        else:
            labels = rng(self.seed, "synthetic labels", domain.name, split).permutation(count) % max(
                1, len(domain.classes)
            )
            yield from ((label, domain.draw(random, label), random) for label in labels.tolist())

    def _rows(self, domain: Domain, split: str, count: int) -> np.ndarray:
        """Which real images belong to the split: the first of a shuffle are the test images."""
        order = rng(self.seed, "synthetic stock", domain.name).permutation(len(domain.stock()[1]))
        return order[: self.test_images] if split == "test" else order[self.test_images :][:count]

    def _streams(self) -> dict[str, list[str]]:
        """Orders of the adaptation concepts: shuffled together, and dataset by dataset."""
        adapted = [domain for domain in DOMAINS if domain.role == "adaptation"]
        by_dataset = [f"{domain.name}+++{name}" for domain in adapted for name in domain.classes]
        order = rng(self.seed, "synthetic stream").permutation(len(by_dataset))
        return {"stream_random_1": [by_dataset[i] for i in order], "stream_dataset_by_dataset": by_dataset}


def _entry(domain: Domain, target: int, picture: Picture, random: Random) -> Entry:
    """One metadata value with all six keys, in the kinds of value that the released files hold."""
    name = domain.classes[target] if domain.classes else None
    entry = {"classname": name, "target": target, "default_caption": None, "primer_caption": None}
    entry |= {"synthetic_caption": None, "synthetic_merged_caption": None}
    if picture.captions:
        one = picture.captions[0] if len(picture.captions) == 1 else list(picture.captions)
        return entry | {"default_caption": one}
    entry["primer_caption"] = domain.prompt_template.format(name)
    luck = random.random()
    if luck < 0.004:  # no caption was made for it
        return entry
    count = 3 if luck > 0.95 else 1
    merged = sentences(domain.phrase.format(name), picture.seen, random, count)
    if luck > 0.94 and count == 1:  # an artefact of the released files
        merged *= 2
    return entry | {
        "synthetic_caption": [with_articles(f"something {picture.seen}")] * len(merged),
        "synthetic_merged_caption": merged,
    }


def _texts(entry: Entry) -> list[str]:
    values = [value for key, value in entry.items() if key.endswith("_caption") and value is not None]
    return [text for value in values for text in ([value] if isinstance(value, str) else value)]


def _facts(domain: Domain) -> Entry:
    facts = {"name": domain.name, "kind": domain.kind, "role": domain.role}
    return facts | {"prompt_template": domain.prompt_template, "classes": list(domain.classes)}


def _write_model(folder: Path, texts: list[str]) -> None:
    """The description of the tiny CLIP and its tokenizer, as open_clip reads them from a local folder.

    The vocabulary covers the words of all domains, also of those that come later: the tokenizer of a real CLIP has
    every word too, and meaning is learned in the embeddings only.
    """
    folder.mkdir()
    bpe, vocab_size = word_bpe(word for text in set(texts) for word in re.findall("[a-z]+", text.lower()))
    (folder / "bpe.txt.gz").write_bytes(bpe)
    text = TINY_CLIP["text_cfg"] | {"vocab_size": vocab_size, "tokenizer_kwargs": {"bpe_path": "bpe.txt.gz"}}
    config = {"model_cfg": TINY_CLIP | {"text_cfg": text}, "preprocess_cfg": PREPROCESS}
    _write_json(folder / "open_clip_config.json", config)


class _Archive:
    """Where the images of one dataset go: a tar without clocks and owners in it, or a plain folder."""

    def __init__(self, root: Path, domain: Domain):
        self.root, self.name = root, domain.name
        self.tar = None
        if domain.packed:
            self.tar = tarfile.TarFile(root / f"{domain.name}.tar", "w", format=tarfile.USTAR_FORMAT)

    def __enter__(self) -> "_Archive":
        return self

    def __exit__(self, *_error) -> None:
        if self.tar:
            self.tar.close()

    def add(self, key: str, data: bytes) -> None:
        member = f"{self.name}/{key}"
        if self.tar:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            self.tar.addfile(info, io.BytesIO(data))
        else:
            (self.root / member).parent.mkdir(parents=True, exist_ok=True)
            (self.root / member).write_bytes(data)


def _encoded(picture: Picture, suffix: str) -> bytes:
    data = io.BytesIO()
    if suffix == "png":
        picture.image.save(data, "PNG", compress_level=1)
    else:
        picture.image.save(data, "JPEG", quality=90, subsampling=0)
    return data.getvalue()


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9]+", "_", name.lower())


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1))
