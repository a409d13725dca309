import io

import pytest
from PIL import Image

from data_catalog import store
from models.evaluation.examples import SIDE, examples, pictures
from models.evaluation.page import render
from models.evaluation.page_examples import single_images


@pytest.mark.parametrize("change, hit, missed", [("learned", "after", "before"), ("lost", "before", "after")])
def test_an_example_was_hit_at_one_end_only(rich, change, hit, missed):
    shown = examples(rich, rich.recipes[0], change)
    classified = [e for e in shown if len(e.before) > 2]
    assert classified
    for example in classified:
        assert getattr(example, hit)[0] == example.own[0] != getattr(example, missed)[0]


def test_examples_are_taken_from_all_sets_in_turn(rich):
    shown = examples(rich, rich.recipes[0], "learned", count=5)
    assert [example.dataset for example in shown] == list(rich.adaptation)


def test_the_surest_of_a_set_come_first(rich):
    alone = rich.model_copy(update={"eval_sets": rich.eval_sets[:1]})
    table = store.read_table(rich.recipes[0].steps[-1].scores.outcomes["shapes"])
    sure = [table["confidence"][example.row].as_py() for example in examples(alone, rich.recipes[0], "learned")]
    assert len(sure) > 1 and sure == sorted(sure, reverse=True)


def test_ranks_of_retrieval_are_told_in_words_with_all_captions(rich):
    found = next(e for e in examples(rich, rich.recipes[0], "learned", 40) if e.dataset == "retrieval_new")
    assert found.own == (f"caption 0 of <picture> {found.row}", f"caption 1 of <picture> {found.row}")
    assert found.after[0] == "own caption at place 1 among the captions"
    assert found.before[1] == "the image at place 13, 31 among the images"


def test_pictures_are_small(rich):
    shown = examples(rich, rich.recipes[0], "learned", 2)
    for data in pictures(rich, shown):
        assert max(Image.open(io.BytesIO(data)).size) <= SIDE and len(data) < 10_000


def test_a_picture_that_is_gone_leaves_its_words(rich, tmp_path):
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    assert set(pictures(rich, examples(rich, rich.recipes[0], "lost"))) == {None}
    assert "can no longer be read" in single_images(rich).content


def test_outcomes_of_other_images_are_refused(rich):
    other = [s.model_copy(update={"samples": 7}) for s in rich.eval_sets]
    with pytest.raises(ValueError, match="40 images of shapes, but the record names a set of 7"):
        examples(rich.model_copy(update={"eval_sets": tuple(other)}), rich.recipes[0], "learned")


def test_records_without_outcomes_have_no_images(record):
    assert single_images(record) is None


def test_every_image_on_the_page_has_words(rich):
    page = render(rich)
    assert page.count("<img ") == page.count('<img alt="Test image of ') > 10
    assert "caption 0 of &lt;picture&gt;" in page
