"""What turbo raises and what it warns with."""

from __future__ import annotations


class TurboError(Exception):
    """Something turbo cannot do. The text says what was found and what to do about it."""


class TurboWarning(UserWarning):
    """The result is right, but not what the caller probably had in mind."""
