"""The name of a store: a URL or the path of a file, and what can be said of the file before it is opened.

A path is taken as it is: ``?``, ``#`` and ``%20`` are parts of its name, and ``~`` at its begin is the home folder. So
they are in a URL ``sqlite:///FILE``; only a ``?`` with options of SQLite behind it ends the path.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from swarm.errors import StoreUnavailable
from swarm.manners.files import is_folder

SQLITE = "sqlite:///"
MEMORY = ":memory:"
_OPTION = re.compile(r"(cache|check_same_thread|mode|nolock|immutable|timeout|uri|vfs)=[^&=?]*")
_NETWORK = {
    *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"),
    *("nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs"),
}
_LOCAL_FUSE = {  # all other file systems in user space are taken for remote ones
    *("bindfs", "cryfs", "encfs", "exfat", "fuse-overlayfs", "gocryptfs", "lxcfs", "mergerfs", "ntfs", "ntfs-3g"),
    *("overlayfs", "portal", "squashfuse", "unionfs", "unionfs-fuse", "zfs-fuse"),
}


def store_url(name: str | os.PathLike[str]) -> str:
    """The URL of a store, from a URL or from the path of an SQLite file.

    Raises:
        StoreUnavailable: It is a URL of a kind that is not supported, or no name at all.
    """
    text = os.fspath(name)
    if isinstance(name, os.PathLike) or "://" not in text:
        if not text:
            raise StoreUnavailable("a store has a name: sqlite:///FILE, a file, or postgresql://HOST/NAME")
        return _file_url(text)
    if text.startswith(("postgresql://", "postgres://")):
        return "postgresql+psycopg://" + text.split("://", 1)[1]
    if text.startswith(("sqlite:", "sqlite+", "postgresql+")):
        return text
    raise StoreUnavailable(f"a store is sqlite:///FILE or postgresql://HOST/NAME, not {text!r}")


def split(url: str) -> tuple[str, dict[str, str]] | None:
    """Path and options of an SQLite store's URL, the path as it was written; None for another kind of store."""
    if not url.startswith(("sqlite:", "sqlite+")):
        return None
    path, question, options = url.partition("://")[2].removeprefix("/").rpartition("?")
    if not question:
        return options, {}
    parts = options.split("&") if options else []
    if all(_OPTION.fullmatch(part) for part in parts):
        return path, dict(part.split("=", 1) for part in parts)
    return f"{path}?{options}", {}


def file_of(url: str) -> Path | None:
    """The file of an SQLite store, absolute and without links, however it is named; None where there is no file."""
    parts = split(url)
    if parts is None or parts[0] in ("", MEMORY) or parts[0].startswith("file:"):
        return None
    return Path(parts[0]).expanduser().resolve()


def absolute(name: str | os.PathLike[str]) -> str:
    """The URL of a store that means the same in every folder."""
    url = store_url(name)
    parts, file = split(url), file_of(url)
    if parts is None or file is None:
        return url
    options = "&".join(f"{option}={value}" for option, value in parts[1].items())
    return f"{SQLITE}{file}?{options}" if options else _file_url(str(file))


def check(file: Path, create: bool = True) -> None:
    """See that there is an SQLite file, or that one can be made.

    Raises:
        StoreUnavailable: There is none and none is to be made, it is a folder, its folder is not there, or the system
            refuses to look.
    """
    if not create:
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise StoreUnavailable(f"there is no store at {file}; name one with --store") from None
        except OSError as error:
            raise StoreUnavailable(f"the store {file} cannot be opened: {error.strerror}") from None
    if is_folder(file):
        raise StoreUnavailable(f"{file} is a folder; name a file in it: --store {file / 'swarm.db'}")
    if not is_folder(file.parent):
        raise StoreUnavailable(
            f"the store {file} cannot be made; does its folder exist? Make it: mkdir -p {file.parent}"
        )


def on_network(file: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The kind of network file system that a file is on, such as ``nfs4``; None if it is on a disk of this machine.

    Args:
        file: The file, absolute and without links; it need not be there.
        mounts: What is mounted where, as Linux tells it.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    kind, longest = "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        place = Path(_unescaped(before.split(" ")[4]))
        if len(place.parts) >= longest and (file == place or place in file.parents):
            kind, longest = after.split(" ")[0], len(place.parts)
    family, _, name = kind.partition(".")
    if family in ("fuse", "fuseblk"):
        return kind if name and name not in _LOCAL_FUSE and family == "fuse" else None
    return kind if kind in _NETWORK else None


@cache
def advice(file: Path, kind: str) -> str:
    """What to say of a store on a network file system."""
    return (
        f"the store {file} is on a network file system ({kind}), where SQLite is slow and its locks are not to be "
        "trusted: let only one machine write it, or use a file on a local disk or postgresql://HOST/NAME"
    )


def _file_url(path: str) -> str:
    return f"{SQLITE}{path}?" if "?" in path else f"{SQLITE}{path}"  # with its end marked, lest it end before


def _unescaped(place: str) -> str:
    """A mount point; spaces and the like are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)
