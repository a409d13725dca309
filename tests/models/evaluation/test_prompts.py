import json

import pytest
from pydantic import ValidationError

from data_catalog import store
from data_catalog.eval_sets import LISTED, EvalSet
from models.evaluation.prompts import Prompts, texts_of


@pytest.mark.parametrize("templates, count", [("own", 0), ("simple", 7), ("openai", 80), (("a {}",), 1)])
def test_ensembles_have_the_templates_of_openclip(templates, count):
    given = Prompts(templates=templates).given()
    assert len(given) == count and all("{}" in template for template in given)


def test_listed_templates_are_left_to_the_source():
    assert Prompts(templates="listed").given() == LISTED


@pytest.mark.parametrize("templates", [(), ("no place for a name",), "unknown"])
def test_templates_that_name_no_class_are_refused(templates):
    with pytest.raises(ValidationError):
        Prompts(templates=templates)


def test_a_class_has_one_text_or_several():
    texts = store.write_bytes(json.dumps(["a cat", ["a dog", "the dog"]]).encode())
    some = EvalSet(digest=texts, name="some", kind="classification", texts=texts, samples=1)
    assert texts_of(some) == (("a cat",), ("a dog", "the dog"))
