"""What a database says, as an error of ours that names what to do."""

from __future__ import annotations

import sqlalchemy as sa

from swarm.errors import StoreAway, StoreDamaged, StoreError, StoreUnavailable

_REMEDIES = {  # by what the database says
    "locked": "another program holds it, close that or take another store",
    "readonly": "make the file and its folder writable, or take another store",
    "read-only": "make the file and its folder writable, or take another store",
    "ermission": "make the file and its folder writable, or take another store",
    "unable to open": "does its folder exist, and may you write there?",
    "is full": "make room on its disk",
    "o space left": "make room on its disk",
    "not a database": "name another file with --store, or restore it from a backup",
    "too big": "load data in prepare() or inside the training instead of in a closure",
    "has not answered": "is its server suspended, or the network cut?",
    "onnection refused": "is its server started?",
    "statement timeout": "its server is overloaded, or a lock is held; try again, or raise swarm.store-timeout-seconds",
}
_DAMAGE = (
    *("malformed", "ould not decode to UTF-8", "invalid page", "could not read block", "is corrupt", "unexpected zero"),
    *("invalid memory alloc", "could not access status of transaction"),
)
_FOR_GOOD = ("authentication", "does not exist", "permission denied", "o space left", "no pg_hba.conf", "is full")


def complaint(url: str, error: BaseException) -> StoreError:
    """The error of ours for one of the database."""
    cause = _cause(error)
    if any(sign in cause for sign in _DAMAGE):
        return damaged(url, cause)
    kind = StoreAway if _is_away(error, cause) else StoreUnavailable
    return kind(f"the store {url} cannot be used: {cause}{_remedy(cause)}")


def damaged(url: str, cause: str) -> StoreDamaged:
    """The error for a database of which something cannot be read that belongs to no run in particular."""
    return StoreDamaged(
        f"the store {url} is damaged: {cause}. Restore it from a backup; what is damaged, tells: "
        f"swarm check --store {url}"
    )


def job_damaged(url: str, job: object, what: str, cause: object) -> StoreDamaged:
    """The error for damage that harms one job alone."""
    return StoreDamaged(
        f"{what} of job {job!r} in {url} is damaged: {cause}. {job_remedy(url, job)}",
    )


def job_remedy(url: str, job: object) -> str:
    """What to do about it."""
    return f"Restore the store from a backup, or delete the job: swarm delete {job} --store {url}"


def result_damaged(url: str, key: object, job: object, cause: object) -> StoreDamaged:
    """The error for an archived result."""
    return StoreDamaged(
        f"the archived result {key!r} in {url}, which job {job!r} has trained, is damaged: {cause}. "
        f"{result_remedy(url)}"
    )


def result_remedy(url: str) -> str:
    """What to do about it."""
    return (
        "Restore the store from a backup, or have what is damaged trained again when a job asks for it: "
        f"swarm archive forget --damaged --store {url}"
    )


def _cause(error: BaseException) -> str:
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _is_away(error: BaseException, cause: str) -> bool:
    """Whether the same call may succeed when it is made again later."""
    if isinstance(error, sa.exc.TimeoutError):  # all connections are in use
        return True
    if not isinstance(error, sa.exc.DBAPIError) or any(sign in cause for sign in _FOR_GOOD):
        return False
    orig = error.orig
    if type(orig).__module__.startswith("sqlite3"):
        return "locked" in cause or "busy" in cause
    return error.connection_invalidated or isinstance(error, sa.exc.OperationalError)


def _remedy(cause: str) -> str:
    return next((f"; {remedy}" for sign, remedy in _REMEDIES.items() if sign in cause), "")
