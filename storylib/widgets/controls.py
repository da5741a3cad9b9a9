"""Controls that the forms share: escaped text, buttons, a notice, a card with a story; all of what ipywidgets 7 and 8
have in common."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import ipywidgets as widgets

from storylib.widgets.background import sentence

LOOK = (Path(__file__).parent / "look.css").read_text(encoding="utf-8")
LIKED, DISLIKED, LIKING = 5, 1, "liked"  # scores and criterion of 👍 and 👎 in a feedback store


def styled(*names: str, widget: widgets.DOMWidget) -> widgets.DOMWidget:
    for name in names:
        widget.add_class(f"storylib-{name}")
    return widget


class Form:
    """What a notebook shows of a form: its page, the outermost box, with its look.

    It holds the widgets and is none: theirs are hundreds of names that its own could hide.
    """

    def __init__(self, children: Sequence[widgets.Widget]) -> None:
        look = styled("look", widget=widgets.HTML(f"<style>{LOOK}</style>"))
        self.page = widgets.VBox([look, *children])
        self.page.add_class("storylib")

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.page)


def row(*children: widgets.Widget, css: str = "row") -> widgets.Box:
    return styled(css, widget=widgets.Box(children))


def stack(*children: widgets.Widget, css: str = "stack") -> widgets.VBox:
    return styled(css, widget=widgets.VBox(children))


def html(text: str = "", tag: str = "p", css: str = "") -> str:
    """Text as HTML that shows it as it stands.

    >>> html("<script>alert(1)</script>")
    '<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>'
    """
    return f'<{tag} class="{css}">{escape(text)}</{tag}>' if css else f"<{tag}>{escape(text)}</{tag}>"


def label(text: str = "", tag: str = "p", css: str = "") -> widgets.HTML:
    return widgets.HTML(html(text, tag, css))


def button(text: str, *css: str) -> widgets.Button:
    return styled(*css, widget=widgets.Button(description=text))


def show(widget: widgets.DOMWidget, shown: bool) -> None:
    (widget.remove_class if shown else widget.add_class)("storylib-hidden")


def mark(widget: widgets.DOMWidget, name: str, marked: bool) -> None:
    (widget.add_class if marked else widget.remove_class)(f"storylib-{name}")


class Notice(widgets.HTML):
    """One plain sentence to the reader, which screen readers speak when it changes."""

    def __init__(self) -> None:
        super().__init__(self.filled(""))
        self.add_class("storylib-notice")

    def say(self, text: str) -> None:
        self.value = self.filled(text)

    @staticmethod
    def filled(text: str) -> str:
        return f'<p role="status" aria-live="polite">{escape(text)}</p>'

    def guarded(self, do: Callable[..., None]) -> Callable[..., None]:
        """`do`, whose errors become a sentence here."""

        def guard(*args) -> None:
            try:
                do(*args)
            except Exception as error:
                self.say(sentence(error))

        return guard

    def on_press(self, control: widgets.Button, do: Callable[[], None]) -> None:
        """Call `do` at each press of the button; its errors become a sentence here."""
        control.on_click(lambda _: self.guarded(do)())


class StoryCard(widgets.VBox):
    """A story under its title, with facts and buttons below."""

    def __init__(self, *buttons: widgets.Button) -> None:
        self.title, self.told, self.facts = widgets.HTML(), styled("told", widget=widgets.HTML()), widgets.HTML()
        self.buttons = buttons
        super().__init__([self.title, self.told, self.facts, *([row(*buttons)] if buttons else [])])
        self.add_class("storylib-card")

    def entitle(self, words: str, emojis: Sequence[str] = ()) -> None:
        self.title.value = f"<h2>{''.join(html(emoji, 'span') for emoji in emojis)}{escape(words)}</h2>"

    def tell(self, text: str, facts: str = "") -> None:
        """Show `text`, a paragraph for each blank line in it."""
        self.told.value = "".join(html(part) for part in text.split("\n\n") if part.strip())
        self.facts.value = html(facts, css="soft") if facts else ""

    def enable(self, enabled: bool) -> None:
        for control in self.buttons:
            control.disabled = not enabled
