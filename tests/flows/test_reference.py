from typing import Literal

import pytest
from pydantic import Field

from data_catalog.meanings import meaning, summary
from data_catalog.refs import Spec
from flows import reference


class Older(Spec):
    """Something with keys. And more about it."""

    # What lies above a key
    # counts where nothing lies beside it.
    above: int = 1
    beside: int = 2  # what lies beside it
    described: int = Field(3, description="what is\nsaid")  # not this
    silent: int = 4


class Younger(Older):
    """Has the same keys."""

    beside: int = 5
    silent: Literal["a"] = "a"  # heard at last


@pytest.mark.parametrize("name, said", [
    ("above", "What lies above a key counts where nothing lies beside it."),
    ("beside", "what lies beside it"),
    ("described", "what is said"),
    ("silent", ""),
])  # fmt: skip
def test_a_key_means_what_is_written_at_it(name, said):
    assert meaning(Older, name) == said


def test_a_key_that_is_only_changed_keeps_its_meaning():
    assert meaning(Younger, "beside") == "what lies beside it" and meaning(Younger, "silent") == "heard at last"


def test_a_summary_is_one_sentence():
    assert summary(Older) == "Something with keys."


def test_every_key_says_what_it_means():
    assert reference.missing() == []


def test_the_page_is_what_the_types_give():
    assert reference.PAGE.read_text() == reference.page(), "run `make docs` and commit docs/reference/configuration.md"


def test_every_link_inside_the_page_leads_somewhere():
    page = reference.page()
    headings = [line.lstrip("# ") for line in page.splitlines() if line.startswith("#")]
    anchors = {"".join(c for c in h.lower() if c.isalnum() or c in " -_").replace(" ", "-") for h in headings}
    assert len(anchors) == len(headings)
    linked = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert linked and linked <= anchors


def test_bounds_choices_and_links_are_shown():
    page = reference.page()
    assert "| `batch_size` | whole number, ≥ 2 | `512` |" in page
    assert "| `method` | [a kind](#recipesupdatemethod) | `{kind: finetune}` |" in page
    assert "| `precision` | `auto` or `fp32` or `bf16` or `fp16` or `fp64` | `auto` |" in page
