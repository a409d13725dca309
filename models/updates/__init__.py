"""Update methods; a new one is a file here and a member of the union below."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from data_catalog.refs import Spec
from models.batches import OnDamaged
from models.parameter_groups import TowerRates
from models.schedules import AnySchedule, Cosine
from models.updates.bitfit import Bitfit
from models.updates.codyra import Codyra
from models.updates.ctp import Ctp
from models.updates.dora import Dora
from models.updates.ewc import Ewc
from models.updates.finetune import Finetune
from models.updates.galore import Galore
from models.updates.l2_sp import L2Sp
from models.updates.layer_selective_lora import LayerSelectiveLora
from models.updates.lnfit import Lnfit
from models.updates.locked_image import LockedImage
from models.updates.locked_text import LockedText
from models.updates.lora import Lora
from models.updates.lwf import Lwf
from models.updates.mer import Mer
from models.updates.osf import Osf
from models.updates.si import Si
from models.updates.vera import Vera
from models.updates.wise_ft import WiseFt
from models.updates.zscl import Zscl

AnyMethod = Annotated[
    Bitfit
    | Codyra
    | Ctp
    | Dora
    | Ewc
    | Finetune
    | Galore
    | L2Sp
    | LayerSelectiveLora
    | Lnfit
    | LockedImage
    | LockedText
    | Lora
    | Lwf
    | Mer
    | Osf
    | Si
    | Vera
    | WiseFt
    | Zscl,
    Field(discriminator="kind"),
]


class UpdateSpec(Spec):
    """How one step changes the weights; the defaults are those of FoMo-in-Flux, arXiv 2408.14471, section 4."""

    method: AnyMethod = Finetune()  # which weights change, and what holds them back
    schedule: AnySchedule = Cosine()  # of the learning rate
    lr: float = Field(1e-5, gt=0)  # peak learning rate
    weight_decay: float = Field(0.2, ge=0)  # of AdamW
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    clip_norm: float = Field(1.0, gt=0)  # longest gradient, over all parameters
    max_logit_scale: PositiveFloat | Literal["auto"] | None = "auto"  # auto: 100 for softmax losses, else none
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # of the contrastive loss
    multi_positive: bool = False  # samples of one class in a batch match each other's texts; off in the paper
    tower_lr: TowerRates = TowerRates()
    layer_decay: float = Field(1.0, gt=0, le=1)  # factor on `lr` per layer towards the input
    ema: float | None = Field(None, gt=0, lt=1)  # decay per iteration of the running mean that becomes the expert
    patch_dropout: float = Field(0.0, ge=0, lt=1)  # share of image patches left out in training
    # auto: bf16 autocast on a GPU, fp32 on a CPU; fp64: to compare machines and launches, the weights stay so
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    accumulate: int = Field(1, ge=1)  # parts a batch is computed in; the loss is still that of the whole batch
    gradient_checkpointing: bool = False  # half the memory of the towers for a third more compute
    compile: bool = False  # torch.compile of both towers
    on_damaged: OnDamaged = "fail"  # replace: by another draw of the same pool, recorded with the expert
    on_non_finite: Literal["fail", "stop"] = "fail"  # stop: the step ends with the last good weights
