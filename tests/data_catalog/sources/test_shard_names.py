"""Names of shards: braces as in a shell, and the split in a name."""

import pytest

from data_catalog.sources.shard_names import expanded, split_in


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
        ("{0..2}", ["0", "1", "2"]),
        ("{a,b}-{1..2}.tar", ["a-1.tar", "a-2.tar", "b-1.tar", "b-2.tar"]),
        ("plain.tar", ["plain.tar"]),
        ("x/*.tar", ["x/*.tar"]),
    ],
)
def test_braces_stand_for_names(pattern, names):
    assert expanded(pattern) == names


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00012.parquet", "train"),
        ("Validation/0.tar", "validation"),
        ("training_set.tar", None),
        ("constrain-1.tar", None),
        ("cc3m_test_0.tar", "test"),
    ],
)
def test_a_split_is_a_whole_word_of_the_name(name, split):
    assert split_in(name, ["train", "test", "validation"]) == split
