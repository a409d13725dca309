"""The section of a report with single images: what a recipe learned, what it lost."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from models.evaluation.examples import Example, examples, pictures
from models.evaluation.page_parts import Section, note
from models.evaluation.record import ExperimentRecord, RecipeRecord

MOST_RECIPES = 4  # shown with images; the page stays small
TITLES = {"learned": "Learned", "lost": "Lost"}


def single_images(record: ExperimentRecord) -> Section | None:
    """Images learned and lost under each recipe; None where the record does not say what became of each image."""
    parts = [_of_recipe(record, recipe) for recipe in record.recipes[:MOST_RECIPES]]
    if not any(parts):
        return None
    text = "Before: the zero-shot weights. After: the last step. The own class is marked."
    if left := [recipe.name for recipe in record.recipes[MOST_RECIPES:]]:
        text += f" Not shown, to keep the page small: {', '.join(left)}."
    return Section("Single images", note(text) + "".join(parts))


def _of_recipe(record: ExperimentRecord, recipe: RecipeRecord) -> str:
    content = ""
    for change, title in TITLES.items():
        shown = examples(record, recipe, change)
        cards = [_card(*pair) for pair in zip(shown, pictures(record, shown), strict=True)]
        content += f'<h4>{title}</h4><ul class="examples">{"".join(cards)}</ul>' if cards else ""
    return f"<h3>{escape(recipe.name)}</h3>{content}" if content else ""


def _card(example: Example, picture: bytes | None) -> str:
    own = "; ".join(example.own)
    shown = '<p class="note">The image can no longer be read from where it was.</p>'
    if picture is not None:
        data = b64encode(picture).decode()
        shown = f'<img alt="{escape(f"Test image of {example.dataset}: {own}")}" src="data:image/webp;base64,{data}">'
    return (
        f'<li><div class="picture">{shown}</div><p><strong>{escape(own)}</strong><br>{escape(example.dataset)}</p>'
        f'<div class="ends">{_end("before", example.before, example.own)}{_end("after", example.after, example.own)}'
        "</div></li>"
    )


def _end(when: str, told: Sequence[str], own: Sequence[str]) -> str:
    lines = "".join(
        f"<li><mark>{escape(line)}</mark></li>" if line in own else f"<li>{escape(line)}</li>" for line in told
    )
    return f"<div><h5>{when}</h5><ol>{lines}</ol></div>"
