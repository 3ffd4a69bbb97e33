"""What a job needs installed is compared with what there is."""

from __future__ import annotations

import platform

import numpy as np

from swarm.workers.node.requirements import unmet


def test_what_is_there_is_not_complained_about() -> None:
    major, minor, _ = platform.python_version_tuple()
    assert unmet([f"python=={major}.{minor}.*", "numpy>=1", "no-such-package; python_version < '3'"]) == []


def test_what_is_missing_or_of_another_version_is_named_with_what_there_is() -> None:
    assert unmet(["numpy<1", "no-such-package>=2", "python<3"]) == [
        f"numpy is {np.__version__}, numpy<1 is needed",
        "no-such-package is not installed, no-such-package>=2 is needed",
        f"python is {platform.python_version()}, python<3 is needed",
    ]
