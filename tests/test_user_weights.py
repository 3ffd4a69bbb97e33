"""Weights of users: administrators set them, the store keeps them, and everybody sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from scripts import run_swarm
from services import Service, logging_training, wait_until
from test_master import job_of, mastered, scheduler

from swarm import Grid, Integer, Job
from swarm.client import Client
from swarm.errors import InvalidInput, NotAllowed


async def test_administrators_alone_weigh_users_and_a_weight_outlives_the_master(tmp_path: Path) -> None:
    async with scheduler() as served:
        ann, boss = (Client(served.address, asynchronous=True, user=name) for name in ("ann", "boss"))
        async with mastered(tmp_path, served.address, admins=["boss"]):
            with pytest.raises(NotAllowed, match=r"only administrators weigh users, and you are 'ann'.*swarm.admins"):
                await ann.weigh("ann", 100)
            assert await boss.weigh("ann", 3) == {"ann": 3.0}
            assert await boss.weigh("bob", 0.5) == {"ann": 3.0, "bob": 0.5}
            assert await boss.weigh("bob", 1) == {"ann": 3.0}
            for wrong in (0, -1, float("nan"), 1e300):
                with pytest.raises(InvalidInput, match="weight"):
                    await boss.weigh("ann", wrong)
        async with mastered(tmp_path, served.address):
            while await ann.weights() != {"ann": 3.0}:
                await asyncio.sleep(0.01)
            assert (await (await ann.submit(job_of())).state()).owner == "ann"


@pytest.mark.slow
def test_users_share_by_weight_however_many_jobs_they_have_and_the_command_changes_it(tmp_path: Path) -> None:
    with Service(tmp_path, env={"DASK_SWARM__ADMINS": '["boss"]'}) as service:
        service.started(slots=4)

        def submitted(user: str, name: str) -> None:
            (tmp_path / name).mkdir()  # another training: one job's results answer no other
            problem = logging_training(tmp_path / name, 0.2)
            job = Job(name=name, problem=problem, space={"x": Integer(0, 9999)}, optimizer=Grid())
            Client(service.address, user=user).submit(job)

        def running() -> dict[str, int]:
            found: dict[str, int] = {"ann": 0, "bob": 0}
            for state in service.client.jobs():
                found[state.owner] += state.running
            return found

        for number in range(5):
            submitted("ann", f"ann-{number}")
        submitted("bob", "bob")
        wait_until(lambda: running() == {"ann": 2, "bob": 2})
        refused = run_swarm(tmp_path, "share", "--user", "bob", "--weight", "3", "--scheduler", service.address)
        assert refused.returncode == 2
        assert "only administrators" in refused.stderr
        Client(service.address, user="boss").weigh("bob", 3)
        wait_until(lambda: running() == {"ann": 1, "bob": 3})
        wait_until(lambda: service.client.weights() == {"bob": 3.0})
        listed = run_swarm(tmp_path, "jobs", "--scheduler", service.address).stdout
        assert "weights of users: bob 3, all others 1" in listed
        mixed = run_swarm(tmp_path, "share", "bob", "--user", "bob", "--weight", "3", "--scheduler", service.address)
        assert (mixed.returncode, "--user NAME --weight W" in mixed.stderr) == (2, True)
