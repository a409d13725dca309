"""What was found out about samples, entered in the catalog for people to ask; nothing reads it back."""

from data_catalog import catalog
from data_catalog.captions import CaptionScores
from data_catalog.duplicates import DuplicateGroups
from tasks.caching import uncached


@uncached(label="record findings in the catalog")
def record_findings(groups: list[DuplicateGroups], scores: list[CaptionScores]) -> bool:
    """Enter groups of duplicates and scores of captions; False if the catalog knew them all."""
    return any([*map(catalog.record_duplicates, groups), *map(catalog.record_scores, scores)])
