"""Which of its texts an image is trained with: the benchmark's rule by default, or preferences, filters and weights.

The rule of FoMo-in-Flux (arXiv 2408.14471; the released code): the default caption if there is one, else the merged
synthetic one, drawn uniformly anew at each access if there are several. Here a captioner's texts come after these two.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from data_catalog.caption_candidates import Candidates, Kind, Library, as_table, joined, one_each, preferred
from data_catalog.caption_rows import GIVEN, CaptionRef, CaptionScores, count_words, leaks
from data_catalog.refs import Spec
from data_catalog.shards import DatasetRef

WRITTEN: tuple[Kind, ...] = ("fusion", "captioner", "template")  # what captioners made, best first
KindOrWritten = Kind | Literal["written"]


class First(Spec):
    """The first text of the first kind that has any."""

    kind: Literal["first"] = "first"

    def choose(self, found: Iterable[Candidates], images: int) -> Candidates:
        """One text for each image."""
        return one_each(preferred(found, images))


class Uniform(Spec):
    """All texts of the first kind that has any, each drawn equally often."""

    kind: Literal["uniform"] = "uniform"

    def choose(self, found: Iterable[Candidates], images: int) -> Candidates:
        """All texts of one kind for each image."""
        return preferred(found, images)


class Weighted(Spec):
    """Texts of several kinds, each kind drawn as often as its weight says, its texts equally often.

    Kinds that an image lacks leave their share to those that it has, in proportion.
    """

    kind: Literal["weighted"] = "weighted"
    weights: dict[Kind, Annotated[float, Field(ge=0)]]  # by kind

    @model_validator(mode="after")
    def _sums_to_something(self) -> "Weighted":
        if not sum(self.weights.values()) > 0:
            raise ValueError(
                f"`weights` are {self.weights}, expected one above 0, e.g. {{template: 0.2, default: 0.8}}"
            )
        return self

    def choose(self, found: Iterable[Candidates], images: int) -> Candidates:
        """All texts of all kinds, with weights that sum to one per image."""
        parts = []
        for candidates, weight in zip(found, filter(None, self.weights.values()), strict=True):
            count = np.bincount(candidates.image, minlength=images)
            parts.append(candidates._replace(weight=(weight / count[candidates.image]).astype(np.float32)))
        whole = joined(parts)
        total = np.bincount(whole.image, whole.weight, minlength=images)
        return whole._replace(weight=(whole.weight / total[whole.image]).astype(np.float32))


class Best(Spec):
    """The text with the highest CLIP score among all kinds; of equals the one of the first kind."""

    kind: Literal["best"] = "best"

    def choose(self, found: Iterable[Candidates], images: int) -> Candidates:
        """One text for each image."""
        whole = joined(list(found))
        order = np.lexsort((-whole.score, whole.image))  # stable: kinds in their order among equals
        return one_each(whole.where(order))


AnyChoice = Annotated[First | Uniform | Weighted | Best, Field(discriminator="kind")]


class CaptionFilter(Spec):
    """Which texts are fit to train on; the defaults take all."""

    min_words: int | None = Field(None, ge=1)  # null: any number
    max_words: int | None = Field(None, ge=1)  # null: any number
    leaks: Literal["keep", "drop"] = "keep"  # texts that repeat their instruction
    fallbacks: Literal["keep", "drop"] = "keep"  # templates in the place of what a captioner could not write
    min_clip_score: float | None = Field(None, ge=-1, le=1)  # cosine of text and image; null: any

    @model_validator(mode="after")
    def _leaves_something(self) -> "CaptionFilter":
        if self.min_words and self.max_words and self.min_words > self.max_words:
            raise ValueError(f"`min_words` is {self.min_words}, more than `max_words`: {self.max_words}; swap them")
        return self

    def passes(self, texts: Candidates) -> np.ndarray:
        """Whether each text is fit."""
        fit = np.ones(len(texts.image), bool)
        if self.min_words or self.max_words:
            words = _looked_up(texts.words, texts.text, count_words)
            fit &= (words >= (self.min_words or 0)) & (words <= (self.max_words or np.inf))
        if self.leaks == "drop":
            fit &= _looked_up(texts.leak, texts.text, leaks) == 0
        if self.fallbacks == "drop":
            fit &= ~texts.fallback
        if self.min_clip_score is not None:
            fit &= ~(texts.score < self.min_clip_score)  # unknown ones were refused before
        return fit


class CaptionPolicy(Spec):
    """Which texts a stream trains on. `prefer`: the kinds, best first; `written`: whatever the captioners made.

    `otherwise`: kinds for images that the filter leaves without a text, taken unfiltered; by default they are an error
    when the stream is composed.
    """

    # kinds, best first; written: whatever the captioners made
    prefer: tuple[KindOrWritten, ...] = Field(("default", "synthetic_merged", "written"), min_length=1)
    choice: AnyChoice = Uniform()  # among the texts of an image
    filter: CaptionFilter = CaptionFilter()
    otherwise: tuple[KindOrWritten, ...] = ()  # kinds for images that `filter` leaves no text; none: an error

    @model_validator(mode="after")
    def _says_the_kinds_once(self) -> "CaptionPolicy":
        if isinstance(self.choice, Weighted) and self.prefer != type(self).model_fields["prefer"].default:
            raise ValueError("`prefer` and the weights of `choice` both name kinds; leave `prefer` out")
        return self

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that are chosen among."""
        if isinstance(self.choice, Weighted):
            return tuple(kind for kind, weight in self.choice.weights.items() if weight)
        return _spelt_out(self.prefer)

    def needs_scores(self) -> bool:
        """Whether it decides by CLIP scores."""
        return isinstance(self.choice, Best) or self.filter.min_clip_score is not None


def training_texts(
    dataset: DatasetRef,
    captions: Sequence[CaptionRef],
    policy: CaptionPolicy,
    scores: Sequence[CaptionScores] = (),
) -> pa.Table:
    """The texts of every image of a dataset, one row per row of its sample table (schema TRAINING_TEXTS).

    `captions`, `scores`: of any datasets; those of this one count. Raises ValueError for kinds that nobody wrote and
    for scores that are needed and missing.
    """
    own = sorted(
        (ref for ref in captions if ref.dataset == dataset.digest), key=lambda ref: (ref.captioner, ref.digest)
    )
    _check_written(dataset, own, policy)
    library = Library(dataset, own, [ref for ref in scores if ref.dataset == dataset.digest])
    chosen = policy.choice.choose(_found(library, policy), library.images)
    if policy.otherwise:
        rest = (library.candidates(kind) for kind in _spelt_out(policy.otherwise))
        chosen = preferred(chain([chosen], rest), library.images)
    return as_table(chosen, library)


def _found(library: Library, policy: CaptionPolicy) -> Iterator[Candidates]:
    """What there is of each kind that the policy chooses among, filtered; read when its turn comes."""
    for kind in policy.kinds():
        texts = library.candidates(kind)
        if policy.needs_scores():
            _check_scored(library, texts, kind)
        yield texts if policy.filter == CaptionFilter() else texts.where(policy.filter.passes(texts))


def _spelt_out(kinds: Sequence[KindOrWritten]) -> tuple[Kind, ...]:
    """The kinds, `written` replaced by what it stands for, each once."""
    spelt = [kind for name in kinds for kind in (WRITTEN if name == "written" else (name,))]
    return tuple(dict.fromkeys(spelt))


def _check_written(dataset: DatasetRef, captions: list[CaptionRef], policy: CaptionPolicy) -> None:
    """Raise ValueError if the policy names a kind that no captioner of this dataset writes."""
    named = policy.kinds() if isinstance(policy.choice, Weighted) else policy.prefer
    wanted = {*named, *policy.otherwise} - {*GIVEN, "written"}
    there = {ref.kind for ref in captions} | ({"seed"} if any(ref.kind == "fusion" for ref in captions) else set())
    if missing := sorted(wanted - there):
        raise ValueError(
            f"the caption policy names {', '.join(missing)}, but no such captions of {dataset.name} were given, only "
            f"{', '.join(sorted(there)) or 'none'} beside those that came with the data; caption it with that kind"
        )


def _check_scored(library: Library, texts: Candidates, kind: Kind) -> None:
    """Raise ValueError if a text of a training image has no CLIP score."""
    if count := int((np.isnan(texts.score) & library.is_train[texts.image]).sum()):
        raise ValueError(
            f"the caption policy needs CLIP scores, but {count} of the {len(texts.image)} texts of kind `{kind}` of "
            f"{library.name} have none; score those captions, or choose without scores"
        )


def _looked_up(
    known: np.ndarray, text: pa.ChunkedArray, look: Callable[[pa.ChunkedArray], pa.ChunkedArray]
) -> np.ndarray:
    """What is known of each text, and what `look` finds where nothing is (-1)."""
    unknown = np.flatnonzero(known < 0)
    if not len(unknown):
        return known
    complete = known.copy()
    complete[unknown] = look(text.take(pa.array(unknown))).to_numpy()
    return complete
