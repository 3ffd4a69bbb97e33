"""Telling somebody, by a request to a URL or by a command, that a search has ended, or that a trial failed first."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from swarm.errors import InvalidInput
from swarm.job.fields import is_url

SECONDS = 30.0  # for an answer, or for the command to end
_TEXT = 2000  # characters of an error that are told
_log = logging.getLogger("swarm.notify")

Occasion = Literal["ended", "failed"]


@dataclass(frozen=True)
class Notice:
    """Whom a job tells: at its end, and when a trial of it failed for the first time.

    What is told is one JSON object, as the body of a POST, or on the standard input of a command: ``job``, ``event``
    (``ended`` or ``failed``), ``reason``, ``best`` (``params``, ``fitness``) and ``counts``. A command also finds job
    and event in ``SWARM_JOB`` and ``SWARM_EVENT``. A job tells one thing after the other, so that commands that append
    to a file do not mix their lines. Nobody who cannot be told holds the search up, or ends it.

    Attributes:
        to: A URL (``https://…``), or a command for the shell.
        job: Name of the job.
    """

    to: str
    job: str
    _sent: list[threading.Thread] = field(default_factory=list, compare=False, repr=False)

    def tell(self, event: Occasion, reason: str, best: dict[str, Any] | None, counts: dict[str, int]) -> None:
        """Tell it, in a thread of its own, when what was told before has ended."""
        said = {"job": self.job, "event": event, "reason": reason[:_TEXT], "best": best, "counts": counts}
        before = self._sent[-1] if self._sent else None
        arguments = (json.dumps(said), event, before)
        thread = threading.Thread(target=self._send, args=arguments, name="swarm-notify", daemon=True)
        self._sent.append(thread)
        thread.start()

    def wait(self) -> None:
        """Wait until all is told; at most as long as that may take."""
        for thread in self._sent:
            thread.join(SECONDS + 5)

    def _send(self, text: str, event: Occasion, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        try:
            if is_url(self.to):
                body, headers = text.encode(), {"Content-Type": "application/json", "User-Agent": "dask-swarm"}
                request = urllib.request.Request(self.to, data=body, headers=headers, method="POST")
                with urllib.request.urlopen(request, timeout=SECONDS):
                    return
            self._call(text, {**os.environ, "SWARM_JOB": self.job, "SWARM_EVENT": event})
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _log.warning("notify of job %s: %s cannot be told: %s", self.job, self.to, error)

    def _call(self, text: str, environment: dict[str, str]) -> None:
        """Run the command, which is the user's own, on the user's own machine."""
        options: dict[str, Any] = {"input": text, "text": True, "capture_output": True, "timeout": SECONDS}
        done = subprocess.run(self.to, shell=True, env=environment, check=False, **options)
        if done.returncode:
            said = done.stderr[-500:]
            _log.warning("notify of job %s: %r ended with %d: %s", self.job, self.to, done.returncode, said)


def check_posting(to: str | None, hosts: tuple[str, ...]) -> None:
    """Refuse what a service does not do for its users: run their commands, or send requests to any host.

    Raises:
        InvalidInput: It is a command, or the host is none that the service's settings name.
    """
    if to is None:
        return
    if not is_url(to):
        raise InvalidInput(
            "notify is a command, and a service runs no commands of its users: give a URL, or wait for the job here, "
            "handle.wait(on_trial=…)"
        )
    host = urlsplit(to).hostname
    if host not in hosts:
        allowed = ", ".join(hosts) or "none"
        raise InvalidInput(
            f"notify: this service sends requests to {allowed}, not to {host}: ask the one who runs the master to "
            "name it in the setting swarm.notify-hosts, or leave notify out"
        )
