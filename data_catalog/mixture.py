"""The mixture: which share of a batch comes from which pool (FoMo-in-Flux, arXiv 2408.14471; reference section 4)."""

from pydantic import Field, model_validator

from data_catalog.refs import Spec

POOLS = ("pretraining", "update", "buffer")  # the order in which the rounding hands out what is left


class Mixture(Spec):
    """Shares of a batch over the three pools; the defaults are those of the paper."""

    pretraining: float = Field(0.33, ge=0, le=1)
    update: float = Field(0.34, ge=0, le=1)
    buffer: float = Field(0.33, ge=0, le=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Mixture":
        total = self.pretraining + self.update + self.buffer
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"mixture sums to {total:.3f}, expected 1: update={self.update} buffer={self.buffer} "
                f"pretraining={self.pretraining}; adjust `mixture`"
            )
        return self


def split_batch(batch_size: int, mixture: Mixture, step: int) -> dict[str, int]:
    """How many samples of a batch each pool gives; at step 0 there is no buffer yet and its share is dealt out."""
    if batch_size < 1:
        raise ValueError(f"batch size is {batch_size}, expected at least 1")
    sizes = _shared_out(batch_size, mixture)
    return _without_buffer(sizes, batch_size) if step == 0 else sizes


def _shared_out(batch_size: int, mixture: Mixture) -> dict[str, int]:
    """Every pool's share rounded down, then one sample each in the order of POOLS, also where the share is 0."""
    sizes = {pool: int(batch_size * getattr(mixture, pool)) for pool in POOLS}
    for pool in POOLS[: batch_size - sum(sizes.values())]:
        sizes[pool] += 1
    return sizes


def _without_buffer(sizes: dict[str, int], batch_size: int) -> dict[str, int]:
    if sizes["update"] == batch_size:
        return sizes
    portions = 2 if sizes["pretraining"] > 0 else 1
    share, rest = divmod(sizes["buffer"], portions)
    pretraining = sizes["pretraining"] + (share if portions == 2 else 0)
    return {"pretraining": pretraining, "update": sizes["update"] + share + rest, "buffer": 0}
