"""The one error that the command line turns into a plain line, and a notebook too."""


class UserError(ValueError):
    """Something the user can put right; the command line prints it as one line."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"\x1b[31m{self}\x1b[0m"]
