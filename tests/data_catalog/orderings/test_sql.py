"""The order a query returns; the catalog itself is asked through its one function."""

import pytest

from data_catalog import catalog
from data_catalog.orderings.base import Concept
from data_catalog.orderings.sql import Sql
from data_catalog.seeds import rng

CONCEPTS = [Concept("SHAPES", "circle"), Concept("SHAPES", "square"), Concept("SHAPES", "star"),
            Concept("SCENES", "hill"), Concept("SCENES", "lake")]  # fmt: skip
QUERY = "SELECT dataset, concept, count(*) AS n FROM samples WHERE split = 'train' AND dataset <> 'BROAD' GROUP BY ALL"


@pytest.fixture
def recorded(datasets, captions):
    catalog.record_ingest(list(datasets.values()), captions)


def test_the_order_of_the_rows_is_the_order_of_the_concepts(recorded):
    order = Sql(query=f"{QUERY} ORDER BY concept").order(CONCEPTS, rng(0))
    assert [concept.name for concept in order] == ["circle", "hill", "lake", "square", "star"]


def test_what_the_query_says_is_the_identity(recorded):
    one, same, other = (Sql(query=f"{QUERY} {how}").identity() for how in (
        "ORDER BY concept", "ORDER BY concept, dataset", "ORDER BY concept DESC"))  # fmt: skip
    assert one == same != other


@pytest.mark.parametrize("query, message", [
    ("SELECT concept FROM samples", r"returns columns \['concept'\]"),
    ("SELECT dataset, concept FROM samples WHERE false", "returns no rows"),
    ("SELECT dataset, NULL AS concept FROM samples LIMIT 1", "both text"),
    ("SELECT 'SHAPES' AS dataset, 'stars' AS concept", "without a training sample, first 'stars'"),
    (f"{QUERY} UNION ALL SELECT 'SHAPES', 'star', 1", "more than once"),
])  # fmt: skip
def test_queries_that_name_no_stream_are_errors(recorded, query, message):
    with pytest.raises(ValueError, match=message):
        Sql(query=query).order(CONCEPTS, rng(0))
