"""The version of the package, for journals, pages and clients."""

from __future__ import annotations

__version__ = "0.1.0"
