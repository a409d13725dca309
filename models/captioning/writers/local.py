"""A causal language model on this machine, of the Hugging Face layout.

For fusing captions choose an instruct model under Apache-2.0 or MIT at a pinned commit; sizes of one family can differ
in licence, and CapsFusion's own model derives from LLaMA.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from models.captioning.pretrained import Loaded, Pretrained, load
from models.captioning.row_memory import Said
from models.captioning.writers.writer import Writer


class Local(Pretrained, Writer):
    """A model by folder or hub name; answers greedily, in batches."""

    kind: Literal["local"] = "local"
    max_new_tokens: int = Field(80, ge=1)  # of one answer

    def settings(self) -> dict:
        """Precision and batch size can change a word."""
        return super().settings() | {"dtype": self.dtype, "batch_size": self.batch_size}

    def answers(self, questions: Sequence[str]) -> Iterator[list[tuple[int, Said]]]:
        """One batch at a time, in the order of the questions."""
        loaded = load(self, "AutoModelForCausalLM", "AutoTokenizer")
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            yield list(enumerate(_answered(loaded, batch, self.max_new_tokens), start))


@torch.inference_mode()
def _answered(loaded: Loaded, questions: Sequence[str], max_new_tokens: int) -> list[Said]:
    with loaded.turn:
        inputs = _inputs(loaded.processor, questions).to(loaded.model.device)
        output = loaded.model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens,
            pad_token_id=loaded.processor.pad_token_id,
        )  # fmt: skip
    fresh = output[:, inputs["input_ids"].shape[1] :]
    texts = loaded.processor.batch_decode(fresh, skip_special_tokens=True)
    read, written = inputs["attention_mask"].sum(1).tolist(), (fresh != loaded.processor.pad_token_id).sum(1).tolist()
    is_whole = torch.isin(fresh, _ends(loaded)).any(1).tolist()  # else it was cut at the limit
    return [Said((text,) if whole else (), *tokens)
            for text, whole, *tokens in zip(texts, is_whole, read, written, strict=True)]  # fmt: skip


def _ends(loaded: Loaded) -> torch.Tensor:
    ends = loaded.model.generation_config.eos_token_id
    return torch.tensor(loaded.processor.eos_token_id if ends is None else ends, device=loaded.model.device)


def _inputs(tokenizer: Any, questions: Sequence[str]) -> Any:
    tokenizer.padding_side = "left"  # generation goes on at the right end
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not tokenizer.chat_template:
        return tokenizer(list(questions), padding=True, return_tensors="pt", return_token_type_ids=False)
    chats = [[{"role": "user", "content": question}] for question in questions]
    return tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
