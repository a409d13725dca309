"""What became of each image of an evaluation set, as tables in the store: all metrics are made of them.

One row per image, in the order of the set. Classification: `target`, `rank` (classes before the own one), `top` (the
five best classes, -1 where there are fewer), `confidence` (probability of the first of them), with a linear probe also
`probe_hit`; the number of classes stands in the metadata of the schema. Retrieval: `image_rank` (texts before the own
text ranked first) and `text_ranks` (for each own text, images before the own one). Both: `concept` and `clean` where
known.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models.evaluation.metrics import CLASSES
from models.evaluation.zero_shot import TOP, Answers

_KNOWN = ("concept", "clean")  # columns of a set that its outcomes keep


def classification_table(eval_set: EvalSet, answers: Answers, classes: int, probe_hit: Tensor | None) -> pa.Table:
    """The outcomes of a classification set of so many classes."""
    top = answers.top.cpu().numpy().reshape(-1)
    columns = {
        "target": store.read_table(eval_set.digest, ["target"])["target"].combine_chunks().cast(pa.int32()),
        "rank": answers.rank.cpu().numpy(),
        "top": pa.FixedSizeListArray.from_arrays(pa.array(top, pa.int32()), TOP),
        "confidence": answers.confidence.cpu().numpy(),
    }
    probed = {} if probe_hit is None else {"probe_hit": probe_hit.cpu().numpy()}
    table = pa.table(columns | probed | _known(eval_set))
    return table.replace_schema_metadata({CLASSES: str(classes)})


def retrieval_table(eval_set: EvalSet, image_rank: Tensor, text_rank: Tensor) -> pa.Table:
    """The outcomes of a retrieval set, from ranks of its images and of its texts."""
    owned = store.read_table(eval_set.digest, ["first_text", "last_text"])
    lengths = owned["last_text"].to_numpy() - owned["first_text"].to_numpy()
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    text_ranks = pa.ListArray.from_arrays(ends, pa.array(text_rank.cpu().numpy(), pa.int32()))
    return pa.table({"image_rank": image_rank.cpu().numpy(), "text_ranks": text_ranks} | _known(eval_set))


def targets_of(eval_set: EvalSet, classes: int) -> Tensor:
    """The class of each image, int64 [n]; raises ValueError where it is none of so many classes."""
    column = store.read_table(eval_set.digest, ["target"])["target"]
    targets = torch.from_numpy(column.to_numpy().copy()).long()
    if column.null_count or int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise ValueError(
            f"{eval_set.name} has targets outside its {classes} classes, or images without one; "
            "the class names of the dataset do not fit its samples"
        )
    return targets


def owners_of(eval_set: EvalSet, texts: int) -> Tensor:
    """The image of each text; never its class target, which reference 9.1 describes as a defect.

    Raises ValueError where the images own another number of texts, and where one owns none, which could never hit.
    """
    table = store.read_table(eval_set.digest, ["first_text", "last_text"])
    first, last = (torch.from_numpy(table[name].to_numpy().copy()).long() for name in table.column_names)
    if len(silent := (last <= first).nonzero().flatten()):
        raise ValueError(
            f"{len(silent)} of {len(first)} images of {eval_set.name} have no text, the first at position "
            f"{int(silent[0])}; leave them out of the evaluation set"
        )
    owners = torch.repeat_interleave(last - first)
    if len(owners) != texts:
        raise ValueError(f"the images of {eval_set.name} own {len(owners)} texts, but it has {texts}; compose it again")
    return owners


def _known(eval_set: EvalSet) -> dict[str, pa.ChunkedArray]:
    names = [name for name in pq.read_schema(store.locate(eval_set.digest)).names if name in _KNOWN]
    table = store.read_table(eval_set.digest, names)
    return {name: table[name] for name in names if table[name].null_count < table.num_rows}
