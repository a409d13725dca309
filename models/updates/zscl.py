"""ZSCL, distillation on reference data with weight ensembling: Zheng et al. 2023, arXiv 2303.06628, section 3.

As in FoMo-in-Flux (arXiv 2408.14471) the reference images are the pretraining rows of a batch and the contrastive loss
is that of the others; the reference texts are texts of the pretraining pool, embedded once by the pretrained weights
and kept from step to step. Published defaults: 15,840 texts, temperature 2, l2 of 1 to the weights of the step's start,
a running mean of weights every 100 iterations. Here the mean takes the last weights in whatever their number, so that
a step shorter than that is not lost; and the temperature of the contrastive loss trains, but not by this distillation.
"""

import logging
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.updates.carried import Tensors, clones, trained
from models.updates.distilled import both_ways, taught
from models.updates.following import moved
from models.updates.method import Carried, Contrast, Features, Given, Method, Minibatch, Moment, Passes
from models.updates.quadratic import quadratic_penalty


class Zscl(Method):
    """Train everything, keep what the pretrained model thinks of reference data, and average weights along the way."""

    kind: Literal["zscl"] = "zscl"
    USES: ClassVar[frozenset[str]] = frozenset({"pretrained", "memory"})
    texts: int = Field(15_840, ge=1)  # reference texts at most, captions of CC3M's validation set in the paper
    temperature: float = Field(2.0, gt=0)  # of the softened distributions, on top of the model's own
    weight: float = Field(1.0, gt=0)  # of the distillation
    units: Literal["logits", "cosines"] = "logits"  # whose temperature is squared as a factor; cosines: FoMo-in-Flux
    l2: float = Field(1.0, ge=0)  # on the summed squared distance to the weights of the step's start
    ensemble_every: int = Field(100, ge=1)  # iterations between weights that enter the mean

    def carry(self, model: nn.Module, given: Given) -> Carried:
        """The pretrained model, reference texts and their features, the weights of the step's start and their mean."""
        start = clones(trained(model))
        carried = Carried(teacher=given.pretrained, fixed={"start": start}, embed=given.embed)
        if not len(given.reference_texts(1)):
            logging.getLogger(__name__).warning(
                "zscl: no row of this step is of the pretraining pool, so nothing is distilled and only `l2` and the "
                "mean of weights hold the model; give `pretraining` a share of the mixture"
            )
        if (texts := self._texts(carried, given)) is not None:
            carried.fixed["reference"] = texts
        counts = {name: torch.full_like(model.logit_scale, count).detach() for name, count in _AT_START.items()}
        carried.running = {"ensemble": clones(start), "counts": counts}
        return carried

    def loss(
        self, features: Features, batch: Minibatch, model: nn.Module, carried: Carried, contrast: Contrast
    ) -> tuple[Tensor, Tensor]:
        """(contrastive loss of the streamed rows, distillation on the others and l2).

        Raises ValueError for a batch that is all pretraining rows, which leaves nothing to learn.
        """
        if batch.pretraining == len(batch.concepts):
            raise ValueError(
                f"zscl learns from the rows that are not of the pretraining pool, but all {batch.pretraining} rows "
                "of a batch are; give `update` or `buffer` a share of the mixture"
            )
        streamed = batch.streamed_rows
        extra = self.l2 * quadratic_penalty(trained(model), carried.fixed["start"])
        if batch.pretraining:
            extra = extra + self.weight * self._distillation(features, batch, carried)
        return contrast(features.rows(streamed), batch.concepts[streamed]), extra

    @torch.no_grad()
    def after_step(self, model: nn.Module, carried: Carried, moment: Moment) -> None:
        """Every `ensemble_every` iterations: take the weights into the mean, unless none moved."""
        since = carried.running["counts"]["since"]
        since += 1
        if (moment.iteration + 1) % self.ensemble_every == 0:
            done = moved(model)
            _take_in(model, carried, done)
            since *= 1 - done

    @torch.no_grad()
    def finish(self, model: nn.Module, carried: Carried) -> Mapping[str, Tensor]:
        """The mean of the weights, the last ones among them."""
        counts = carried.running["counts"]
        _take_in(model, carried, (counts["since"] > 0).float())
        counts["since"].zero_()
        return {**model.state_dict(), **carried.running["ensemble"]}

    def remember(self, model: nn.Module, carried: Carried, passes: Passes) -> Mapping[str, Mapping[str, Tensor]] | None:
        """The reference texts and what the pretrained model makes of them; nothing where there were none."""
        return {"reference": carried.fixed["reference"]} if "reference" in carried.fixed else None

    def _texts(self, carried: Carried, given: Given) -> Tensors | None:
        """Token ids and features of the reference texts: those of the first step that had any."""
        if given.memory is not None and "reference" in given.memory.groups:
            return dict(given.memory.groups["reference"])
        tokens = given.reference_texts(self.texts)
        if not len(tokens):
            return None
        _, features = taught(carried, given.pretrained, None, tokens)
        return {"tokens": tokens, "features": features}

    def _distillation(self, features: Features, batch: Minibatch, carried: Carried) -> Tensor:
        rows, scale = batch.pretraining_rows, features.scale.detach()
        texts = carried.fixed["reference"]["features"]  # [texts, dim]
        image = self._taught_images(rows, features.image, batch, carried)
        student, teacher = (scale * images @ texts.T for images in (features.image[rows], image))  # [rows, texts]
        kept = both_ways(student, teacher, self.temperature)
        return kept if self.units == "logits" else kept / scale**2

    def _taught_images(self, rows: slice, like: Tensor, batch: Minibatch, carried: Carried) -> Tensor:
        """What the pretrained model makes of the images of `rows`, which not every process has as many of."""
        found = torch.zeros_like(like, requires_grad=False)
        own = batch.own(rows)
        if own.stop > own.start:
            here = batch.ranks.rows(len(batch.concepts)).start
            found[here + own.start : here + own.stop], _ = taught(carried, carried.teacher, batch.images[own], None)
        return batch.ranks.total(found)[rows]


_AT_START = {"weights": 1.0, "since": 0.0}  # weights in the mean; iterations since the last


def _take_in(model: nn.Module, carried: Carried, share: Tensor) -> None:
    """The present weights into the mean, `share` of 1 or not at all of 0."""
    count = carried.running["counts"]["weights"]
    count += share
    for name, weight in trained(model).items():
        mean = carried.running["ensemble"][name]
        mean.lerp_(weight, (share / count).to(mean.dtype))
