"""Which cards are meant: by the settings of CUDA, Slurm, Docker and Kubernetes, and by what a user writes.

Cards are counted in the order of the bus, as ``nvidia-smi`` counts them. CUDA counts the fastest first, unless
``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``; so what is chosen is handed on by UUID, which is the same card in any order.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

from swarm.errors import InvalidInput
from swarm.workers.cards.driver import Device

CUDA = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
ALLOTTED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "GPU_DEVICE_ORDINAL", "NVIDIA_VISIBLE_DEVICES")
"""Variables that say which cards of the machine somebody was given, where CUDA's own says nothing."""

_NONE = ("none", "void", "nodevfiles")
_RANGE = re.compile(r"(\d+)-(\d+)")
_PART = re.compile(r"(\d+):(\d+)")
_MOST = 1024  # cards of a range
_log = logging.getLogger("swarm.workers")


def usable(devices: Sequence[Device]) -> list[Device]:
    """Cards, and of those that are divided their parts, in order."""
    return [device for device in devices if not device.divided and device.uuid]


def visible(devices: Sequence[Device], env: Mapping[str, str]) -> list[Device]:
    """Those that a process with this environment may use, in its order.

    Raises:
        InvalidInput: A variable names what is not there, or one thing twice.
    """
    found = usable(devices)
    if not found:
        return []
    if (said := env.get(CUDA)) is not None:
        words = _until_none(said)
        _warn_of_order(words, found, env)
        return _all_of(words, found, CUDA)
    for name in ALLOTTED:
        if said := env.get(name, "").strip():
            return _allotted(name, said, found)
    return found


def chosen(text: str | None, found: Sequence[Device]) -> list[Device]:
    """Those of ``found`` that a user means: ``all`` or None, numbers, ranges, identifiers or how these begin.

    Raises:
        InvalidInput: There is no such GPU, several are meant, or one is named twice.
    """
    if text is None or text.strip() == "all":
        return list(found)
    return _all_of([word for part in text.split(",") for word in _spread(part.strip())], found, "--gpus")


def _all_of(words: Sequence[str], found: Sequence[Device], where: str) -> list[Device]:
    """What words name, in their order.

    Raises:
        InvalidInput: One is named twice, or not there.
    """
    meant = [device for word in words for device in _named(word, found, where)]
    for place, device in enumerate(meant):
        if device in meant[:place]:
            raise InvalidInput(
                f"{where}: {device.uuid} is named twice; name it once, and for two trainings per GPU use "
                "--gpus-per-training 0.5"
            )
    return meant


def _named(word: str, found: Sequence[Device], where: str) -> list[Device]:
    """What one word names: a number those of one card, ``1:0`` the first part of the second card, a UUID one."""
    cards = list(dict.fromkeys(device.card for device in found))
    if word.isdigit() and int(word) < len(cards):
        return [device for device in found if device.card == cards[int(word)]]
    if (part := _PART.fullmatch(word)) and int(part[1]) < len(cards):
        parts = [device for device in found if device.parent == cards[int(part[1])]]
        if int(part[2]) < len(parts):
            return [parts[int(part[2])]]
    if re.match(r"(GPU|MIG|AMD)-.", word, re.IGNORECASE):
        return _by_identifier(word, found, where)
    raise _absent(word, found, where)


def _by_identifier(word: str, found: Sequence[Device], where: str) -> list[Device]:
    low = word.lower()
    names = {device.uuid: (device.uuid.lower(), (device.alias or device.uuid).lower()) for device in found}
    for device in found:
        if low in names[device.uuid]:
            return [device]
    cards = list(dict.fromkeys(device.card for device in found if device.card.lower().startswith(low)))
    parts = [device for device in found if any(name.startswith(low) for name in names[device.uuid])]
    several = [*cards, *(part.uuid for part in parts if part.card not in cards)]
    if len(several) > 1:
        raise InvalidInput(f"{where}: {word!r} is how several GPUs begin: {', '.join(several)}; write more of it")
    if cards:
        return [device for device in found if device.card == cards[0]]
    if parts:
        return parts
    raise _absent(word, found, where)


def _absent(word: str, found: Sequence[Device], where: str) -> InvalidInput:
    cards = list(dict.fromkeys(device.card for device in found))
    there = ", ".join(map(str, range(len(cards)))) or "none"
    parts = [device.uuid for device in found if device.parent is not None]
    more = f", and parts {', '.join(parts)}" if parts else ""
    return InvalidInput(f"{where}: there is no GPU {word!r}; this machine has {there}{more}")


def _spread(word: str) -> list[str]:
    """``0-2`` as 0, 1, 2."""
    if (found := _RANGE.fullmatch(word)) is None:
        return [word]
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= _MOST:
        raise InvalidInput(f"--gpus: {word!r} is no range; write the smaller number first, 0-3")
    return [str(number) for number in range(first, last + 1)]


def _until_none(said: str) -> list[str]:
    """CUDA's rule: the list ends before the first word that can be no device, such as -1."""
    words = []
    for word in (part.strip() for part in said.split(",")):
        if not word or word.startswith("-") or word.lower() in _NONE:
            break
        words.append(word)
    return words


def _allotted(name: str, said: str, found: Sequence[Device]) -> list[Device]:
    """What a scheduler or a container runtime has given.

    Its numbers are those of the whole machine. Where it also hides the others, which is the rule, there are no more
    than it has named, and all of them are ours.
    """
    if said.lower() in ("all", "void") or said.startswith("/"):  # of a runtime that gives devices in another way
        return list(found)
    words = [word for part in _until_none(said) for word in _spread(part)]
    cards = {device.card for device in found}
    if all(word.isdigit() for word in words) and words and len(cards) <= len(set(words)):
        return list(found)
    return _all_of(words, found, name)


def _warn_of_order(words: Sequence[str], found: Sequence[Device], env: Mapping[str, str]) -> None:
    if any(word.isdigit() for word in words) and env.get(ORDER) != "PCI_BUS_ID" and len({d.name for d in found}) > 1:
        _log.warning(
            "%s counts cards of different kinds: they are taken in the order of nvidia-smi, where CUDA alone would "
            "take the fastest first; name them by UUID (nvidia-smi -L), or set %s=PCI_BUS_ID",
            CUDA,
            ORDER,
        )
