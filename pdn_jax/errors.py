"""What a person did wrong, apart from all that takes long to import."""


class InputError(ValueError):
    """Bad input from a person: one line that names the thing, what was expected and the remedy."""
