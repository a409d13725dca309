"""What the fields of specs mean, read where it is written: in their description, or in the comment beside them."""

import ast
import inspect
import io
import tokenize
from functools import cache
from pathlib import Path

from data_catalog.refs import Spec


def meaning(spec: type[Spec], name: str) -> str:
    """What the field `name` of `spec` means, empty if nobody wrote it; where `spec` is silent, its parents speak."""
    if description := spec.model_fields[name].description:
        return " ".join(description.split())
    families = [family for family in spec.__mro__ if issubclass(family, Spec)]
    return next((said for family in families if (said := _comments(family).get(name))), "")


def summary(spec: type[Spec]) -> str:
    """The first sentence about a class, on one line; empty if there is none."""
    opening = " ".join((spec.__doc__ or "").split("\n\n")[0].split())
    return opening.partition(". ")[0].rstrip(".") + "." if opening else ""


@cache
def _comments(spec: type[Spec]) -> dict[str, str]:
    """Field -> the comment on its own lines, else that on the lines above it."""
    source = Path(inspect.getfile(spec)).read_text()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    fields = [node for node in _class(source, spec).body if isinstance(node, ast.AnnAssign)]
    return {field.target.id: _beside(field, found) or _above(field, found) for field in fields}


def _class(source: str, spec: type[Spec]) -> ast.ClassDef:
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return next(node for node in classes if node.name == spec.__name__)


def _beside(field: ast.AnnAssign, comments: dict[int, tokenize.TokenInfo]) -> str:
    lines = range(field.lineno, field.end_lineno + 1)
    return _joined(comments[line] for line in lines if line in comments)


def _above(field: ast.AnnAssign, comments: dict[int, tokenize.TokenInfo]) -> str:
    line, found = field.lineno - 1, []
    while line in comments and not comments[line].line[: comments[line].start[1]].strip():
        found.insert(0, comments[line])
        line -= 1
    return _joined(found)


def _joined(comments) -> str:
    texts = (comment.string.removeprefix("#").strip() for comment in comments)
    return " ".join(text for text in texts if not text.startswith(("fmt:", "noqa")))
