"""Times and numbers as people read them."""

from __future__ import annotations

from dataclasses import dataclass

_SIZES = ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)


def duration(seconds: float) -> str:
    """Seconds for people: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: int, name: str) -> str:
    """A number of things for people: ``1 slot``, ``3 slots``."""
    return f"{number:d} {name}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes for people: ``812 bytes``, ``3.4 kB``, ``12 MB``, ``80 GB``."""
    if number < 1000:
        return count(number, "byte")
    unit, scale = next((unit, scale) for unit, scale in _SIZES if number >= scale)
    scaled = number / scale
    return f"{scaled:.1f} {unit}" if scaled < 10 else f"{scaled:.0f} {unit}"


@dataclass(frozen=True)
class Unit:
    """A unit of time that keeps numbers readable: divide seconds by ``seconds``."""

    name: str
    seconds: float

    @classmethod
    def of(cls, longest: float) -> Unit:
        """The unit in which times up to this many seconds read best."""
        if longest < 600:
            return cls("s", 1.0)
        return cls("min", 60.0) if longest < 3 * 3600 else cls("h", 3600.0)
