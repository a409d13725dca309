"""Evaluation sets: the images of one split with what they are scored against."""

from typing import Literal

from data_catalog.refs import Ref


class EvalSet(Ref):
    """One dataset to score a checkpoint on; the digest names its image table, `texts` the JSON list of its texts.

    Classification: `texts` are the class prompts in target order and the table's `target` indexes them.
    Retrieval: `texts` are all captions and the table's `first_text`, `last_text` bound those of an image.
    """

    name: str
    kind: Literal["classification", "retrieval"]
    texts: str  # digest of a JSON list
    samples: int
