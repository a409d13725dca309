"""A tokenizer vocabulary in which every word of the family is one token."""

import gzip
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

Pair = tuple[str, str]

RESERVED = 256 * 2 + 2  # bytes, bytes that end a word, and the start and the end of a text


def word_bpe(words: Iterable[str]) -> tuple[bytes, int]:
    """The file open_clip's SimpleTokenizer reads as `bpe_path` (gzip), and the vocabulary size that goes with it.

    Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909), continued until every word is one piece.
    `words`: lower-case, a to z only.
    """
    splits = [(*word[:-1], f"{word[-1]}</w>") for word in sorted(set(words))]
    merges: list[Pair] = []
    while pairs := Counter(pair for split in splits for pair in pairwise(split)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        splits = [_merged(split, best) for split in splits]
        splits = [split for split in splits if len(split) > 1]
    # no newline at the end: SimpleTokenizer would count an empty merge
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    return gzip.compress(text.encode(), mtime=0), RESERVED + len(merges)


def _merged(split: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    """`split` with every occurrence of `pair`, from the left, made one piece."""
    if pair[0] not in split:
        return split
    pieces: list[str] = []
    for piece in split:
        if pieces and (pieces[-1], piece) == pair:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)
