"""Items for tests of scorers and rewards."""

from medrft.text import extract, infer_kind
from medrft.types import Item


def item(answer, *references, completion=None, form=None, options=(), kind=None, **more):
    """An item from a bare answer, or from a completion in a form."""
    if completion is not None:
        form = form or "think"
        found = extract(completion, form)
        answer, more = found.answer, {"thinking": found.thinking, "form": form, "completion": completion, **more}
    kind = kind or infer_kind(references, options)
    return Item(references=references, kind=kind, answer=answer, options=tuple(options), **more)


def think(answer, thought="the film shows it"):
    """A completion in the form `think`."""
    return f"<think>{thought}</think><answer>{answer}</answer>"
