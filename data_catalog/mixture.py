"""The mixture: which share of a batch comes from which pool (FoMo-in-Flux, arXiv 2408.14471; reference section 4)."""

from pydantic import Field, model_validator

from data_catalog.refs import Spec

POOLS = ("pretraining", "update", "buffer")  # the order in which the rounding hands out what is left
PRESETS = {  # the mixtures the paper studies, as shares of POOLS
    "paper": (0.33, 0.34, 0.33),
    "no_buffer": (0.5, 0.5, 0.0),
    "five_percent_replay": (0.05, 0.48, 0.47),  # the replay rule of Ibrahim et al. 2024, arXiv 2403.08763
    "pretraining_heavy": (0.8, 0.1, 0.1),
    "iidify": (0.0, 0.1, 0.9),  # the buffer makes the stream look like one shuffled data set
}


class Mixture(Spec):
    """Shares of a batch over the three pools; the defaults are those of the paper.

    In YAML also the name of a preset, or a preset with `keeps_zeros`: `iidify`, `{preset: iidify, keeps_zeros: true}`.
    """

    pretraining: float = Field(0.33, ge=0, le=1)  # of the pretraining pool
    update: float = Field(0.34, ge=0, le=1)  # of what is new
    buffer: float = Field(0.33, ge=0, le=1)  # of what earlier steps brought
    # The benchmark's rounding may give one sample to a pool with share 0, and with it half of the first step's missing
    # buffer: 231 of 512 for iidify. True: never.
    keeps_zeros: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: object) -> object:
        fields = {"preset": given} if isinstance(given, str) else given
        if not isinstance(fields, dict) or "preset" not in fields:
            return given
        rest = {key: value for key, value in fields.items() if key != "preset"}
        if fields["preset"] not in PRESETS or set(rest) & set(POOLS):
            raise ValueError(
                f"preset {fields['preset']!r} with {sorted(rest)}: expected one of {list(PRESETS)} and no shares "
                "beside it; name a preset, or give the shares of pretraining, update and buffer"
            )
        return dict(zip(POOLS, PRESETS[fields["preset"]], strict=True)) | rest

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
    return _without_buffer(sizes, batch_size, mixture) if step == 0 else sizes


def _shared_out(batch_size: int, mixture: Mixture) -> dict[str, int]:
    """Every pool's share rounded down, then one sample each in the order of POOLS, also where the share is 0.

    With `keeps_zeros` only pools with a share take part in the second round.
    """
    sizes = {pool: int(batch_size * getattr(mixture, pool)) for pool in POOLS}
    takers = [pool for pool in POOLS if getattr(mixture, pool) > 0 or not mixture.keeps_zeros]
    for pool in takers[: batch_size - sum(sizes.values())]:
        sizes[pool] += 1
    return sizes


def _without_buffer(sizes: dict[str, int], batch_size: int, mixture: Mixture) -> dict[str, int]:
    if sizes["update"] == batch_size:
        return sizes
    if mixture.keeps_zeros and mixture.update == 0 and sizes["pretraining"]:
        return {"pretraining": batch_size, "update": 0, "buffer": 0}
    portions = 2 if sizes["pretraining"] > 0 else 1
    share, rest = divmod(sizes["buffer"], portions)
    pretraining = sizes["pretraining"] + (share if portions == 2 else 0)
    return {"pretraining": pretraining, "update": sizes["update"] + share + rest, "buffer": 0}
