"""Captions of a dataset: which text an image is trained with, and where that text came from."""

from data_catalog.refs import Ref


class CaptionRef(Ref):
    """The training texts of one dataset; the digest names a table (sample, kind, texts, captioner)."""

    dataset: str  # digest of the DatasetRef
    name: str
    captioner: str
