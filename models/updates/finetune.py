"""Full finetuning: every parameter trains (FoMo-in-Flux, arXiv 2408.14471, section 4)."""

from typing import Literal

from models.updates.method import Method


class Finetune(Method):
    """Train everything."""

    kind: Literal["finetune"] = "finetune"
