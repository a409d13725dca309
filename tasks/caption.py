"""From a dataset to the texts its images are trained with."""

from data_catalog import captions
from data_catalog.captions import AnyCaptioner, CaptionRef
from data_catalog.shards import DatasetRef
from tasks.caching import cached


@cached(revision=1, label="caption {dataset.name}")
def caption_dataset(dataset: DatasetRef, captioner: AnyCaptioner) -> CaptionRef:
    """Choose or make the training texts of every image of a dataset."""
    return captions.caption(dataset, captioner)
