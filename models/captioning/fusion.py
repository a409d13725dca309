"""A class name and a draft caption merged into one caption that names what is shown and says what can be seen.

The second stage of FoMo-in-Flux (arXiv 2408.14471, appendix), after CapsFusion (Yu et al. 2023, arXiv 2310.20550). The
prompt is ours, and an answer that fails its check is replaced by the template and marked, where the benchmark kept it:
2.7 % of its captions repeat their instruction.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import metadata
from data_catalog.caption_rows import Origin, Texts, leaks
from data_catalog.captions import Captioner, Progress, Written
from data_catalog.shards import DatasetFacts
from models.captioning import prompts
from models.captioning.pretrained import identity
from models.captioning.row_memory import Said, answered
from models.captioning.seeds import AnySeeds, Made, Shipped
from models.captioning.writers import AnyWriter
from models.captioning.writers.openai import OpenAI

REVISION = 1  # raise when the same answers would give other texts
FEWEST_WORDS, MOST_WORDS = 3, 60  # of an answer that counts
QUOTES = "\"'“”„«»`"


class Fusion(Captioner):
    """Lets a language model merge class name and draft; equal pairs are asked once, answers are kept row by row."""

    kind: Literal["fusion"] = "fusion"
    splits: Annotated[tuple[str, ...], Field(min_length=1)] | None = ("train",)  # nothing else needs their texts
    seeds: AnySeeds = Shipped()  # the drafts that are merged with the class name
    writer: AnyWriter  # the language model
    prompt: str = "fusion_v1"  # a file in models/captioning/prompts

    def id(self) -> str:
        """The kind, and a digest of seeds, model, prompt and decoding."""
        return identity(self.kind, {"revision": REVISION, "seeds": self.seeds.id(), **self._origin("")._asdict()})

    def asked_together(self) -> int | None:
        if isinstance(self.writer, OpenAI):
            return None  # a service that is asked in parallel already, as often as it allows
        return self.seeds.batch_size if isinstance(self.seeds, Made) else 1

    def write(self, known: DatasetFacts, samples: pa.Table, progress: Progress | None = None) -> Written:
        """One caption per draft of a sample that has a class, and the drafts themselves if a captioner made them."""
        samples_with_class = samples.filter(samples["concept"].is_valid())
        places = np.flatnonzero(samples["concept"].is_valid().to_numpy())
        drafts = self.seeds.drafts(known, samples_with_class, progress)
        pairs = _pairs(known, samples_with_class, drafts)
        said = answered(self._memory(), [_key(pair) for pair in pairs], lambda missing: self._ask(pairs, missing),
                        f"fuse {known.name}", progress)  # fmt: skip
        texts = [self._checked(places[drafts.rows], pairs, said)]
        if isinstance(self.seeds, Made):
            texts.append(drafts._replace(rows=places[drafts.rows]))
        without = samples_with_class.num_rows - len(np.unique(drafts.rows))
        usage = {"images_without_draft": without, "fallbacks": int(texts[0].fallback.sum())}
        return Written(texts, usage | self._cost(dict(zip(pairs, said, strict=True))))

    def _origin(self, captioner: str) -> Origin:
        settings = json.dumps(self.writer.settings() | {"seeds": self.seeds.id()}, sort_keys=True)
        return Origin(captioner, self.writer.model_identity(), prompts.version_of(self.prompt), settings)

    def _memory(self) -> str:
        """Names the answers; the seeds are in the questions, so that other seeds find the same answers."""
        origin = Origin("", self.writer.model_identity(), prompts.version_of(self.prompt))
        return identity(self.kind, {"revision": REVISION, "settings": self.writer.settings(), **origin._asdict()})

    def _ask(self, pairs: list["Pair"], missing: list[int]) -> Iterator[list[tuple[int, Said]]]:
        question = prompts.question(self.prompt)
        questions = [question.format(label=pairs[place].label, draft=pairs[place].draft) for place in missing]
        for some in self.writer.answers(questions):
            yield [(missing[place], said) for place, said in some]

    def _checked(self, rows: np.ndarray, pairs: list["Pair"], said: list[Said]) -> Texts:
        answers = [tidy(answer.texts[0]) if answer.texts else "" for answer in said]
        fit = are_fit(answers, [pair.label for pair in pairs])
        text = [answer if good else pair.template for answer, pair, good in zip(answers, pairs, fit, strict=True)]
        return Texts(self.kind, self._origin(self.id()), rows, pa.array(text, pa.string()), ~fit)

    def _cost(self, distinct: dict["Pair", Said]) -> dict[str, int | float]:
        tokens = [sum(said[i] for said in distinct.values()) for i in (1, 2)]
        cost = self.writer.cost(*tokens)
        took = {"questions": len(distinct), "tokens_in": tokens[0], "tokens_out": tokens[1]}
        return took | ({} if cost is None else {"cost": round(cost, 6)})


class Pair(NamedTuple):
    """What a question holds, and the text that stands in for a bad answer."""

    label: str
    draft: str
    template: str


def tidy(answer: str) -> str:
    """The answer on one line, without quotation marks around it."""
    return " ".join(answer.split()).strip(QUOTES).strip()


def are_fit(answers: list[str], labels: list[str]) -> np.ndarray:
    """Whether each answer names its class, has 3 to 60 words and repeats no instruction, as bool [answers]."""
    leaky = leaks(pa.array(answers, pa.string())).to_numpy(zero_copy_only=False).astype(bool)
    named = [label.lower() in answer.lower() for answer, label in zip(answers, labels, strict=True)]
    long = [FEWEST_WORDS <= len(answer.split()) <= MOST_WORDS for answer in answers]
    return np.array(named, bool) & np.array(long, bool) & ~leaky


def _pairs(known: DatasetFacts, samples: pa.Table, drafts: Texts) -> list[Pair]:
    if known.prompt_template is None and len(drafts.rows):
        raise ValueError(
            f"{known.name} has classes but no prompt template, which stands in for answers that fail their check; give "
            "it one in datasets.json"
        )
    concepts = pc.take(samples["concept"], pa.array(drafts.rows)).to_pylist()
    said = {name: metadata.fill("{}", name, known.class_name_transform) for name in set(concepts)}
    return [Pair(said[name], draft, known.prompt(name))
            for name, draft in zip(concepts, drafts.text.to_pylist(), strict=True)]  # fmt: skip


def _key(pair: Pair) -> bytes:
    return sha256(json.dumps([pair.label, pair.draft]).encode()).digest()
