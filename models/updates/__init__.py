"""Update methods; a new one is a file here and a member of the union below."""

from typing import Annotated, Literal

from pydantic import Field

from data_catalog.refs import Spec
from models.batches import OnDamaged
from models.schedules import AnySchedule, Cosine
from models.updates.finetune import Finetune
from models.updates.lora import Lora

AnyMethod = Annotated[Finetune | Lora, Field(discriminator="kind")]


class UpdateSpec(Spec):
    """How one step changes the weights; the defaults are those of FoMo-in-Flux, arXiv 2408.14471, section 4."""

    method: AnyMethod = Finetune()
    schedule: AnySchedule = Cosine()
    lr: float = Field(1e-5, gt=0)
    weight_decay: float = Field(0.2, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = Field(1.0, gt=0)
    max_logit_scale: float | None = Field(100.0, gt=0)  # null leaves the temperature free, as the released code does
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 autocast on a GPU, fp32 on a CPU
    on_damaged: OnDamaged = "fail"  # replace: by another draw of the same pool, recorded with the expert
