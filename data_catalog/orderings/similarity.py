"""A path from each concept to the most similar one left (FoMo-in-Flux, arXiv 2408.14471; reference section 3.2).

n concepts cost n^2 * dim for the similarities, n^2 log n to sort them and about n steps of constant work per start. The
sorted neighbours take 2 n^2 bytes (4 from 65,536 concepts on), at most LISTS_BYTES: beyond that only the nearest are
kept and the rest is computed when a path has used them up. For the 18,381 concepts of the benchmark at 512 dimensions
all starts took 3 minutes on two cores and 0.9 GB.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from data_catalog.concept_scores import NameEmbeddings, ScoredBy, ScoreNeed, values_of
from data_catalog.orderings.base import Background, Concept, Ordering

LISTS_BYTES = 1 << 30
_NEAR = 256  # neighbours whose similarity is kept beside their index: most steps go to one of them
_WALKERS = 512  # paths walked side by side
_FIRST_LOOK = 32  # neighbours looked at before the rest


class Similarity(Ordering):
    """Greedy path over the text embeddings of templated names; of all starts tried, the most similar path is kept."""

    PLACES = frozenset({"checkpoint"})  # it decides the embeddings, and these have a digest

    kind: Literal["similarity"] = "similarity"
    checkpoint: ScoredBy | Literal["pretrained"] = "pretrained"  # that embeds the names; pretrained: the first weights
    starts: Literal["all"] | Annotated[int, Field(ge=1)] = "all"  # first concepts tried; a number is drawn at random

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        known = sorted(concepts)
        embeddings = values_of(background.scores, "name_embeddings", known, self.kind)
        every = self.starts == "all" or self.starts >= len(known)
        starts = np.arange(len(known)) if every else np.sort(rng.permutation(len(known))[: self.starts])
        return [known[i] for i in best_path(embeddings, starts)]

    def needs(self) -> ScoreNeed:
        return ScoreNeed(score=NameEmbeddings(), checkpoint=self.checkpoint)


def best_path(embeddings: np.ndarray, starts: np.ndarray, lists_bytes: int = LISTS_BYTES) -> np.ndarray:
    """The greedy path with the highest sum of similarities between neighbours; the first start wins a tie.

    `embeddings`: normalised float32 [concepts, dim]; returns a permutation of the concepts.
    """
    if len(embeddings) < 2:
        return np.arange(len(embeddings))
    lists, near = _neighbours(embeddings, lists_bytes)
    best, best_total = None, -np.inf
    for group in _groups(starts):
        paths, totals = _walk(embeddings, lists, near, group)
        if totals.max() > best_total:
            best, best_total = paths[totals.argmax()], totals.max()
    return best


def _groups(starts: np.ndarray) -> Iterator[np.ndarray]:
    return (starts[i : i + _WALKERS] for i in range(0, len(starts), _WALKERS))


def _neighbours(embeddings: np.ndarray, lists_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """The other concepts by falling similarity [concepts, kept], and the similarity of the first of them."""
    count = len(embeddings)
    index = np.uint16 if count <= 1 << 16 else np.uint32
    kept = int(min(count - 1, max(_FIRST_LOOK, lists_bytes // (count * np.dtype(index).itemsize))))
    lists = np.empty((count, kept), index)
    near = np.empty((count, min(kept, _NEAR)), np.float32)
    for start in range(0, count, 256):
        similar = embeddings[start : start + 256] @ embeddings.T  # [256, concepts]
        rows = np.arange(len(similar))
        similar[rows, start + rows] = -np.inf  # last in its own list, which ends before it
        order = np.argsort(-similar, axis=1, kind="stable")[:, :kept]
        lists[start : start + 256] = order
        near[start : start + 256] = similar[rows[:, None], order[:, : near.shape[1]]]
    return lists, near


def _walk(
    embeddings: np.ndarray, lists: np.ndarray, near: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy paths from `starts`, side by side: [starts, concepts] and the sum of similarities of each."""
    walkers = np.arange(len(starts))
    visited = np.zeros((len(starts), len(embeddings)), bool)
    paths = np.empty((len(starts), len(embeddings)), lists.dtype)
    totals = np.zeros(len(starts))
    here = starts
    for i in range(len(embeddings) - 1):
        paths[:, i], visited[walkers, here] = here, True
        place = _first_free(visited, lists, here)
        there = lists[here, np.minimum(place, lists.shape[1] - 1)].astype(np.int64)
        for walker in np.flatnonzero(place == lists.shape[1]):
            there[walker] = np.where(visited[walker], -np.inf, embeddings @ embeddings[here[walker]]).argmax()
        far = place >= near.shape[1]
        totals[~far] += near[here[~far], place[~far]]
        totals[far] += np.einsum("ij,ij->i", embeddings[here[far]], embeddings[there[far]])
        here = there
    paths[:, -1] = here
    return paths, totals


def _first_free(visited: np.ndarray, lists: np.ndarray, here: np.ndarray) -> np.ndarray:
    """The place in each walker's list of the first neighbour it has not visited; the length of the list if none."""
    place = np.full(len(here), lists.shape[1])
    looking, start, width = np.arange(len(here)), 0, _FIRST_LOOK
    while len(looking) and start < lists.shape[1]:
        free = ~visited[looking[:, None], lists[here[looking], start : start + width]]
        found = free.any(axis=1)
        place[looking[found]] = start + free[found].argmax(axis=1)
        looking, start, width = looking[~found], start + width, width * 2
    return place
