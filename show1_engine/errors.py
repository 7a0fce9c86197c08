"""What can go wrong, in words a user can act on: the thing, its value, the way out."""


class Show1Error(ValueError):
    """Base of every error this package raises on purpose."""


class InputError(Show1Error):
    """A value given by the user cannot be used."""


class CheckpointError(Show1Error):
    """A model file is missing, damaged, unsafe or of another architecture."""


class ModelKindError(Show1Error):
    """A model is of another kind than the stage needs."""
