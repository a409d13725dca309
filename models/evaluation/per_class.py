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

    So no class vanishes from a resampling. Of n images a resampling scatters by (n - 1) / n too little, which counts
    where classes have few: its distance from the hits found is widened by that (Rao & Wu 1988). A class of one image
    draws from all classes that have one. Classes with as many images and as many hits draw together: the sum of their
    hits is one binomial draw, which keeps thousands of classes cheap.
    """
    images, hits = _per_class(target, hit)
    classes, single = len(images), images == 1
    alike, count = np.unique(np.stack([images, hits], axis=1)[~single], axis=0, return_counts=True)
    images_each, hits_each = alike.T  # [kinds of classes]
    scattered = _scattered(draw, images_each, hits_each, count, replicates) / images_each
    alone = np.array([[single.sum()], [hits[single].sum()], [1]])  # as one class of all their images
    found = _scattered(draw, *alone, replicates)[:, 0] if single.sum() > 1 else hits[single].sum()
    return np.clip((scattered.sum(1) + found) / classes, 0, 1)


def _scattered(
    draw: np.random.Generator, images: np.ndarray, hits: np.ndarray, classes: np.ndarray, replicates: int
) -> np.ndarray:
    """Hits of so many classes together, of as many images and hits each: [replicates, kinds of classes]."""
    drawn = draw.binomial(classes * images, hits / images, size=(replicates, len(images)))
    return classes * hits + (drawn - classes * hits) * np.sqrt(images / (images - 1))


def _per_class(target: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images = np.bincount(target)
    occurring = images > 0
    return images[occurring], np.bincount(target, hit)[occurring].astype(np.int64)
