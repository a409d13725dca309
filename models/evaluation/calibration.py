"""Whether confidences can be believed: the expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3)."""

import numpy as np

from models.evaluation.intervals import REPLICATES

BINS = 15  # of equal width, each without its lower and with its upper end, as in the paper


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence in 0..1; 0 itself lies in the first."""
    return np.maximum(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0)


def calibration_error(confidence: np.ndarray, hit: np.ndarray) -> float:
    """How far confidence and accuracy are apart in a bin, averaged over the images: 0 is perfect.

    `confidence`: float [n] in 0..1; `hit`: bool [n]. Raises ValueError for confidences outside 0..1.
    """
    if not (np.isfinite(confidence).all() and (confidence >= 0).all() and (confidence <= 1).all()):
        raise ValueError("confidences must be probabilities within 0..1; apply softmax or sigmoid to the logits first")
    apart = np.bincount(bin_of(confidence), confidence.astype(np.float64) - hit, minlength=BINS)
    return float(np.abs(apart).sum() / len(hit))


def resampled_errors(
    confidence: np.ndarray, hit: np.ndarray, draw: np.random.Generator, replicates: int = REPLICATES
) -> np.ndarray:
    """The calibration error of images resampled with replacement: [replicates].

    Hits and misses of a bin are drawn with the mean and the variance of their confidences, not with every confidence,
    so there are at most 60 distinct rows however many the images are. A resampled error is on average above the one
    found, most of all where there are few images, and so is its interval.
    """
    cell = bin_of(confidence) * 2 + hit  # [n]
    apart = confidence.astype(np.float64) - hit
    counts = np.bincount(cell, minlength=2 * BINS)
    used = counts.nonzero()[0]
    mean = np.bincount(cell, apart, minlength=2 * BINS)[used] / counts[used]
    spread = np.sqrt(np.bincount(cell, (apart - mean[np.searchsorted(used, cell)]) ** 2)[used] / counts[used])
    values = np.stack([mean - spread, mean + spread], axis=1).ravel()  # two points that are as far apart
    share = np.repeat(counts[used] / (2 * len(hit)), 2)
    drawn = draw.multinomial(len(hit), share, size=replicates)  # [replicates, points]
    first_of_bin = np.unique(np.repeat(used // 2, 2), return_index=True)[1]
    per_bin = np.add.reduceat(drawn * values, first_of_bin, axis=1)  # [replicates, bins]
    return np.abs(per_bin).sum(1) / len(hit)
