"""Merging techniques; a new one is a file here and a member of the union below."""

from models.merging.linear import Linear

AnyTechnique = Linear  # becomes a union discriminated by `kind` with the second technique
