"""Which texts stand for a class: its dataset's own, or an ensemble (Radford et al. 2021, arXiv 2103.00020, 3.1.4)."""

import json
from typing import Annotated, Literal

from pydantic import Field

from data_catalog import store
from data_catalog.eval_sets import LISTED, EvalSet
from data_catalog.refs import Spec
from models import clip

Template = Annotated[str, Field(pattern=r"\{\}")]


class Prompts(Spec):
    """The templates around the names of classes; the texts of retrieval sets stay as they are.

    `own`: that of the dataset's registry entry; `listed`: all that its source lists; `simple`, `openai`: the 7 and the
    80 that OpenCLIP carries for ImageNet; or a list of templates with `{}` where the name goes. Where there are
    several, the mean of their unit vectors stands for the class.
    """

    # around class names: a named set or a list
    templates: Literal["own", "listed", "simple", "openai"] | tuple[Template, ...] = Field("own", min_length=1)

    def given(self) -> tuple[str, ...]:
        """The templates as `compose_chosen_set` takes them: none stands for the dataset's own."""
        if isinstance(self.templates, tuple):
            return self.templates
        if self.templates in ("simple", "openai"):
            return clip.prompt_templates(self.templates)
        return {"own": (), "listed": LISTED}[self.templates]


def texts_of(eval_set: EvalSet) -> tuple[tuple[str, ...], ...]:
    """The prompts of each class, or each caption: one text, or several that stand for a class together."""
    found = json.loads(store.read_bytes(eval_set.texts))
    return tuple((texts,) if isinstance(texts, str) else tuple(texts) for texts in found)
