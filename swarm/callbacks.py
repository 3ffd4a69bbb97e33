"""What the callbacks for Keras and Lightning need of a training's context."""

from __future__ import annotations

from typing import Any, Protocol


class Reporting(Protocol):
    """What a training function is called with, as far as a callback that reports needs it."""

    def report(self, /, **metrics: float) -> bool:
        """Add a point to the learning curve; whether the training has come as far as its budget."""
        ...


class Keeping(Protocol):
    """What a training function is called with, as far as a callback that saves needs it."""

    @property
    def ending(self) -> float | None:
        """Seconds until its worker ends, or None."""
        ...

    @property
    def wants_checkpoint(self) -> bool:
        """Whether there is a place to save to."""
        ...

    def restore(self) -> Any:
        """What to continue from, or None."""
        ...

    def save(self, arrays: Any, **meta: Any) -> None:
        """Save the state of the training."""
        ...
