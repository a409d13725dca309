"""The two roots of every value that travels between stages: specs say what to do, references name stored bytes."""

import re

from pydantic import BaseModel, ConfigDict, Field

DIGEST = r"sha256:[0-9a-f]{64}"


class Spec(BaseModel):
    """A frozen piece of configuration that refuses unknown keys."""

    # errors reach logs, and what was put in the wrong place may be a key
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Ref(Spec):
    """A name for bytes in the artifact store; the digest is `sha256:` and 64 hex digits."""

    digest: str = Field(pattern=f"^{DIGEST}$")


def is_digest(text: str) -> bool:
    """Whether a text is the name of stored bytes."""
    return re.fullmatch(DIGEST, text) is not None


def digests_in(text: str) -> set[str]:
    """Every digest that a document names, wherever in it."""
    return set(re.findall(DIGEST, text))
