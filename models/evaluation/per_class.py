"""The mean over classes of their accuracy, where every class counts the same however many images it has."""

import numpy as np

from models.evaluation.intervals import REPLICATES


def class_mean(target: np.ndarray, hit: np.ndarray) -> float:
    """Mean accuracy over the classes that occur; `target`: class of each image, int [n]; `hit`: bool [n]."""
    images, hits = _per_class(target, hit)
    return float((hits / images).sum() / len(images))


def resampled_class_means(
    target: np.ndarray, hit: np.ndarray, draw: np.random.Generator, replicates: int = REPLICATES
) -> np.ndarray:
    """The same over images resampled within their class: [replicates].

    So no class vanishes from a resampling. Classes with as many images and as many hits draw together: the sum of
    their hits is one binomial draw, which keeps thousands of classes cheap and the distribution exact.
    """
    images, hits = _per_class(target, hit)
    alike, classes = np.unique(np.stack([images, hits], axis=1), axis=0, return_counts=True)
    images_each, hits_each = alike.T  # [kinds of classes]
    drawn = draw.binomial(classes * images_each, hits_each / images_each, size=(replicates, len(alike)))
    return (drawn / images_each).sum(1) / classes.sum()


def _per_class(target: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images = np.bincount(target)
    occurring = images > 0
    return images[occurring], np.bincount(target, hit)[occurring].astype(np.int64)
