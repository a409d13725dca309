"""Whether confidences can be believed: the expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3)."""

import numpy as np

from models.evaluation.intervals import REPLICATES

BINS = 15  # of equal width, each without its lower and with its upper end, as in the paper
PARTS = 4  # of a bin, in which confidences count as their mean where they are resampled


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin of each confidence in 0..1; 0 itself lies in the first."""
    return np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)


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

    Confidences within a quarter of a bin count as their mean, so there are at most 120 distinct rows however many the
    images are; that leaves out less than a thousandth of the spread. A resampled error is on average above the one
    found, most of all where there are few images, and so is its interval.
    """
    cell = bin_of(confidence, BINS * PARTS) * 2 + hit  # [n]
    counts = np.bincount(cell, minlength=2 * BINS * PARTS)
    apart = np.bincount(cell, confidence.astype(np.float64) - hit, minlength=len(counts))
    used = counts.nonzero()[0]
    drawn = draw.multinomial(len(hit), counts[used] / len(hit), size=replicates)  # [replicates, cells]
    first_of_bin = np.unique(used // (2 * PARTS), return_index=True)[1]
    per_bin = np.add.reduceat(drawn * (apart[used] / counts[used]), first_of_bin, axis=1)  # [replicates, bins]
    return np.abs(per_bin).sum(1) / len(hit)
