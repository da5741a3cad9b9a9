"""The one error that the command line turns into a plain line."""


class UserError(ValueError):
    """Something the user can put right; the command line prints it as one line."""
