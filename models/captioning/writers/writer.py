"""What every writer is: a language model that answers questions."""

from collections.abc import Iterator, Sequence

from data_catalog.refs import Spec
from models.captioning.row_memory import Said


class Writer(Spec):
    """A language model behind any interface."""

    kind: str
    max_new_tokens: int = 80

    def model_identity(self) -> str:
        """The model with its revision or digest."""
        raise NotImplementedError

    def settings(self) -> dict:
        """What else decides an answer."""
        return {"writer": self.kind, "max_new_tokens": self.max_new_tokens}

    def answers(self, questions: Sequence[str]) -> Iterator[list[tuple[int, Said]]]:
        """Answers as they come, some at a time, each with the place of its question; no text: it was refused."""
        raise NotImplementedError

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """The price of so many tokens; None if the writer has none."""
        return None
