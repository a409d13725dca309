"""The two roots of every value that travels between stages: specs say what to do, references name stored bytes."""

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """A frozen piece of configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Ref(Spec):
    """A name for bytes in the artifact store; the digest is `sha256:` and 64 hex digits."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
