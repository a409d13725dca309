"""Which text an image is trained with."""

import pytest

from data_catalog import store
from data_catalog.captions import Template, caption


def texts(dataset):
    return {row["sample"]: (row["kind"], row["texts"], row["captioner"])
            for row in store.read_table(caption(dataset, Template()).digest).to_pylist()}  # fmt: skip


def test_default_before_merged_before_the_captioner(datasets):
    assert texts(datasets["SCENES"])["SCENES/train/0.png"] == ("default", ["scene 0"], "benchmark")
    shapes = texts(datasets["SHAPES"])
    assert shapes["SHAPES/train/square/0.png"] == ("synthetic_merged", ["a square"], "benchmark")
    assert shapes["SHAPES/train/star/0.png"] == ("template", ["A photo of a star."], "template")


def test_rows_stand_in_the_order_of_the_samples(datasets):
    assert list(texts(datasets["SHAPES"])) == store.read_table(datasets["SHAPES"].digest)["id"].to_pylist()


@pytest.mark.parametrize("name", ["SHAPES", "SCENES", "BROAD"])
def test_captioning_again_gives_the_same_bytes(datasets, name):
    assert caption(datasets[name], Template()) == caption(datasets[name], Template())
