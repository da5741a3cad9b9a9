"""Forms for a notebook or a page of its own: they call the functions they are given, and nothing imports them.

What a lesson needs to show the emoji picker:

    from storylib.widgets import emoji_picker
    from storylib.storyteller import storyteller
    emoji_picker(storyteller())

With `store=FeedbackStore("feedback.sqlite")` it keeps likes, and with `folder` it keeps stories there. Its plain twin:
`storyteller()("🦔🏰📚", seed=3).text`.

Each form has three parts: what it knows (`storylib.picking`, which needs no ipywidgets), its controls (a class that
only builds them), and its wiring (a class that connects the two).
"""

from storylib.widgets.picker import emoji_picker
from storylib.widgets.rating import comparison_form, rating_form
from storylib.widgets.wishes import wishes_form

__all__ = ["comparison_form", "emoji_picker", "rating_form", "wishes_form"]
