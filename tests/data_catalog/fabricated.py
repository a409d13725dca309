"""A small recorded life, made by hand: two datasets, two steps, and checkpoints that descend from each other."""

import pyarrow as pa

from data_catalog import catalog, store
from data_catalog.caption_rows import CAPTION_ROWS, CaptionRef
from data_catalog.orderings import Random
from data_catalog.recorded import TrainedStep
from data_catalog.shards import SAMPLES, DatasetFacts, DatasetRef, with_facts
from data_catalog.stream import compose_stream

CONCEPTS = ("thing", "other")
DRAWS = (  # step, pool, sample, text, how often
    (0, "update", "A/train/0", "a zero", 2),
    (0, "update", "A/train/1", "a one", 1),
    (0, "pretraining", "B/train/0", "b zero", 3),
    (1, "update", "A/train/2", "a two", 1),
    (1, "buffer", "A/train/0", "a zero", 1),
    (1, "buffer", "A/train/0", "a nought", 1),
    (1, "pretraining", "B/train/1", "b one", 2),
)


def dataset(name, size, same_bytes=()):
    """A stored dataset of `size` training images; those in `same_bytes` have the bytes of image 0."""
    rows = [
        {
            "id": f"{name}/train/{i}", "dataset": name, "split": "train", "key": str(i), "concept": CONCEPTS[i % 2],
            "target": i % 2, "shard": f"raw/{name}.tar", "offset": 512 * i, "length": 9, "width": 8, "height": 8,
            "format": "PNG",
            "hash": store.digest_of(f"{name}{0 if i in same_bytes else i}".encode()).encode()[-32:],
        }
        for i in range(size)
    ]  # fmt: skip
    known = DatasetFacts(name=name, kind="classification", prompt_template="A {}.", classnames=CONCEPTS, year=2011)
    table = with_facts(pa.Table.from_pylist(rows, SAMPLES), known)
    digest = store.write_table(table, stage="ingest")
    return DatasetRef(digest=digest, name=name, samples={"train": size}, kind="classification")


def captions(of):
    """One caption per image."""
    rows = [
        {"sample": f"{of.name}/train/{i}", "position": 0, "kind": "template", "text": f"{of.name} {i}",
         "captioner": "template", "model": None, "prompt": None, "settings": None, "words": 2, "leak": False,
         "fallback": False}
        for i in range(of.samples["train"])
    ]  # fmt: skip
    digest = store.write_table(pa.Table.from_pylist(rows, CAPTION_ROWS), stage="caption")
    return CaptionRef(digest=digest, dataset=of.digest, name=of.name, captioner="template")


def step_plan(step):
    """The stored rows of one step, one per draw."""
    rows = [
        {"iteration": i, "pool": pool, "id": sample, "concept": "thing", "text": text, "caption_kind": "default",
         "captioner": "benchmark", "marked": sample == "A/train/1"}
        for at, pool, sample, text, times in DRAWS if at == step for i in range(times)
    ]  # fmt: skip
    return store.write_table(pa.Table.from_pylist(rows), stage="compose_step", step=step)


def checkpoint(content, **origin):
    return store.write_bytes(content.encode(), **origin)


class Life:
    """pretrained -> expert 0 -> merged 0 -> expert 1, and `other`, trained from the pretrained weights alone."""

    def __init__(self):
        self.datasets = [dataset("A", 4, same_bytes=(3,)), dataset("B", 3)]
        self.captions = [captions(each) for each in self.datasets]
        catalog.record_ingest(self.datasets, self.captions)
        self.plans = [step_plan(step) for step in (0, 1)]
        self.pretrained = checkpoint("pretrained", initialised_from="tiny")
        self.expert0 = checkpoint("expert 0", made_by="update", init=self.pretrained, step_plan=self.plans[0])
        picks = {"base": self.pretrained, "picks": [self.expert0, self.pretrained]}
        self.merged0 = checkpoint("merged 0", made_by="merge", parents=picks)
        self.expert1 = checkpoint("expert 1", made_by="update", init=self.merged0, step_plan=self.plans[1])
        self.other = checkpoint("other", made_by="update", init=self.pretrained, step_plan=self.plans[1])
        self.plan = compose_stream(self.datasets, self.captions, Random(), 2, 0, ["B"])
        trained = [
            ("merged", 0, self.expert0, self.merged0),
            ("merged", 1, self.expert1, self.expert1),
            ("alone", 1, self.other, None),
        ]
        self.steps = [
            TrainedStep(recipe=recipe, step=step, step_plan=self.plans[step], checkpoint=expert, deployed=deployed)
            for recipe, step, expert, deployed in trained
        ]

    def record(self):
        return catalog.record_stream("life", self.plan, self.steps)
