"""Which GPUs there are and which are meant: by CUDA's rules, by Slurm's and the containers' settings, by users."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpus import Gpus, card, gpus_here, part, uuid

from swarm.errors import InvalidInput
from swarm.workers.cards import amd, driver
from swarm.workers.cards.load import look
from swarm.workers.node.gpu import gpus
from swarm.workers.node.slots import worker_env
from swarm.workers.node.supervisor import make_slots

ALL = [uuid(number) for number in range(4)]


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    with gpus_here(tmp_path, monkeypatch, count=4) as found:
        yield found


@pytest.fixture
def divided(cards: Gpus) -> list[str]:
    """Two cards, of which the second is divided into two; what can be used."""
    parts = [f"mig {part(number)} 9984 13 {number + 7} 0" for number in range(2)]
    cards.has(card(0), card(1), *parts)
    return [uuid(0), part(0), part(1)]


@pytest.mark.parametrize("count", [1, 4, 8])
def test_each_gpu_is_found_once_in_the_order_of_the_bus(cards: Gpus, count: int) -> None:
    cards.has(*map(card, range(count)))
    assert gpus() == [uuid(number) for number in range(count)]


def test_where_there_is_no_driver_there_is_no_gpu_and_no_process_that_asks(
    cards: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert (driver.look(), gpus()) == (None, [])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("1", [1]),
        ("2,0", [2, 0]),
        (f"{ALL[3]}", [3]),
        (f"{ALL[2][:9]},1", [2, 1]),
        (ALL[2].upper(), [2]),
        ("0,-1,1", [0]),
        ("-1", []),
        ("-2,3", []),
        ("", []),
        ("none", []),
        ("void", []),
        ("NoDevFiles", []),
        ("0, 1", [0, 1]),
    ],
)
def test_cudas_variable_is_read_by_its_rules(
    cards: Gpus, monkeypatch: pytest.MonkeyPatch, said: str, expected: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")  # which then counts no more
    assert gpus() == [uuid(number) for number in expected]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("7", "no GPU '7'; this machine has 0, 1, 2, 3"),
        ("GPU-", "no GPU 'GPU-'"),
        ("GPU-99", "no GPU 'GPU-99'"),
        ("0,0", f"{ALL[0]} is named twice"),
        (f"0,{ALL[0]}", f"{ALL[0]} is named twice"),
        (f"1,{ALL[1][:8]}", f"{ALL[1]} is named twice"),
        ("first", "no GPU 'first'"),
    ],
)
def test_what_names_no_gpu_or_one_twice_is_refused(
    cards: Gpus, monkeypatch: pytest.MonkeyPatch, said: str, message: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    with pytest.raises(InvalidInput, match=rf"CUDA_VISIBLE_DEVICES: .*{message}"):
        gpus()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(InvalidInput, match=rf"--gpus: .*{message}"):
        make_slots(said)


def test_an_identifier_that_is_cut_too_short_is_refused(cards: Gpus) -> None:
    cards.has("gpu GPU-ab1 9000 0 A", "gpu GPU-ab2 9000 0 A")
    with pytest.raises(InvalidInput, match="'GPU-ab' is how several GPUs begin: GPU-ab1, GPU-ab2; write more"):
        make_slots("GPU-ab")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0-2", [0, 1, 2]),
        ("0,2-3", [0, 2, 3]),
        ("3,1", [3, 1]),
        ("all", [0, 1, 2, 3]),
        (f"{ALL[1][:10]},3", [1, 3]),
    ],
)
def test_a_user_names_gpus_by_numbers_ranges_and_identifiers(cards: Gpus, said: str, expected: list[int]) -> None:
    assert [slot.gpus for slot in make_slots(said)] == [(uuid(number),) for number in expected]


@pytest.mark.parametrize("said", ["2-0", "0-9", "1-", "a-b", "0-99999999"])
def test_a_range_of_gpus_that_are_not_there_is_refused(cards: Gpus, said: str) -> None:
    with pytest.raises(InvalidInput, match="--gpus: "):
        make_slots(said)


def test_a_users_numbers_count_among_what_cuda_may_see(cards: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert [slot.gpus for slot in make_slots("1")] == [(uuid(3),)]


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("SLURM_STEP_GPUS", "1,3", [1, 3]),
        ("SLURM_JOB_GPUS", "0-1", [0, 1]),
        ("GPU_DEVICE_ORDINAL", "2", [2]),
        ("SLURM_JOB_GPUS", "4,5,6,7", [0, 1, 2, 3]),  # the other four are hidden
        ("NVIDIA_VISIBLE_DEVICES", "all", [0, 1, 2, 3]),
        ("NVIDIA_VISIBLE_DEVICES", f"{ALL[3]},{ALL[0]}", [3, 0]),
        ("NVIDIA_VISIBLE_DEVICES", "4,5,6,7", [0, 1, 2, 3]),
        ("NVIDIA_VISIBLE_DEVICES", "1", [1]),
        ("NVIDIA_VISIBLE_DEVICES", "none", []),
        ("NVIDIA_VISIBLE_DEVICES", "void", [0, 1, 2, 3]),  # they are given in another way (CDI)
        ("NVIDIA_VISIBLE_DEVICES", "/var/run/nvidia-container-devices", [0, 1, 2, 3]),
        ("NVIDIA_VISIBLE_DEVICES", "", [0, 1, 2, 3]),
    ],
)
def test_what_slurm_or_a_container_was_given_is_taken(
    cards: Gpus, monkeypatch: pytest.MonkeyPatch, name: str, said: str, expected: list[int]
) -> None:
    monkeypatch.setenv(name, said)
    assert gpus() == [uuid(number) for number in expected]


def test_a_step_of_slurm_counts_before_its_job(cards: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_GPUS", "0,1,2")
    monkeypatch.setenv("SLURM_STEP_GPUS", "1")
    assert gpus() == [uuid(1)]


def test_numbers_of_unlike_cards_are_warned_of_unless_cuda_counts_them_likewise(
    cards: Gpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cards.has(card(0, name="NVIDIA T4"), card(1, name="NVIDIA H100"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpus() == [uuid(0)]
    assert "the fastest first; name them by UUID" in caplog.text
    caplog.clear()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert gpus() == [uuid(0)]
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", uuid(1))
    assert gpus() == [uuid(1)]
    assert not caplog.text


# --- divided cards


def test_a_divided_card_is_used_by_its_parts(divided: list[str]) -> None:
    assert gpus() == divided
    slots = make_slots("all")
    assert [slot.env["CUDA_VISIBLE_DEVICES"] for slot in slots] == divided


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("1", [1, 2]),
        ("1:1", [2]),
        ("0,1:0", [0, 1]),
        (part(1), [2]),
        (part(0)[:9], [1]),
        (uuid(1), [1, 2]),
        (f"MIG-{uuid(1)}/8/0", [2]),  # as drivers before 470 say it
    ],
)
def test_parts_are_named_by_their_card_their_number_or_their_identifier(
    divided: list[str], said: str, expected: list[int]
) -> None:
    assert [slot.gpus for slot in make_slots(said)] == [(divided[number],) for number in expected]


@pytest.mark.parametrize(("said", "message"), [("1,1:0", "named twice"), ("1:2", "no GPU '1:2'"), ("0:0", "no GPU")])
def test_parts_that_are_not_there_or_named_twice_are_refused(divided: list[str], said: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_slots(said)


def test_cudas_variable_may_name_a_part(divided: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", part(1))
    assert gpus() == [part(1)]


def test_a_training_cannot_have_two_parts_but_a_part_can_have_two_trainings(divided: list[str]) -> None:
    with pytest.raises(InvalidInput, match="one part of a divided GPU"):
        make_slots("1", gpus_per_training=2)
    assert [slot.gpus for slot in make_slots("1:0", gpus_per_training=0.5)] == [(part(0),)] * 2


def test_a_card_that_is_to_be_divided_and_has_no_parts_is_not_used(cards: Gpus) -> None:
    cards.has(card(0), "divided", card(1))
    assert gpus() == [uuid(1)]


# --- drivers in trouble


def test_a_card_that_is_lost_keeps_nobody_from_the_others(cards: Gpus) -> None:
    cards.has(card(0), "lost", card(1))
    assert gpus() == [uuid(1)]


def test_a_driver_that_cannot_be_initialised_offers_no_gpu_and_says_so(
    cards: Gpus, caplog: pytest.LogCaptureFixture
) -> None:
    with cards.trouble("fail"):
        assert gpus() == []
    assert "NVIDIA's driver failed: Driver Not Loaded" in caplog.text
    assert len(gpus()) == 4


def test_a_driver_that_hangs_is_given_up_in_time_and_asked_again_later(
    cards: Gpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(driver.ANSWER, "0.5")
    with cards.trouble("hang"):
        start = time.monotonic()
        assert gpus() == []
        assert time.monotonic() - start < 10
    assert "NVIDIA's driver has not answered for 0 s" in caplog.text
    monkeypatch.setenv(driver.ANSWER, "30")
    assert len(gpus()) == 4


def test_one_process_asks_for_all_looks_and_ends_with_who_asks(cards: Gpus) -> None:
    import psutil

    before = set(psutil.Process().children())
    for _ in range(3):
        assert driver.look() is not None
    (asking,) = set(psutil.Process().children()) - before
    driver.close()
    assert not asking.is_running()


def test_a_process_that_was_forked_asks_by_itself_and_leaves_the_others_alone(cards: Gpus) -> None:
    assert len(gpus()) == 4
    pid = os.fork()
    if pid == 0:
        found = gpus()
        driver.close()
        os._exit(len(found))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 4
    cards.has(card(0))
    assert gpus() == [uuid(0)]


# --- AMD's


@pytest.fixture
def amds(cards: Gpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a processor and three cards of AMD's."""
    monkeypatch.delenv("LD_LIBRARY_PATH")
    for number, units in enumerate((0, 416, 416, 416)):
        node = tmp_path / "nodes" / str(number)
        node.mkdir(parents=True)
        (node / "properties").write_text(f"cpu_cores_count 8\nsimd_count {units}\nunique_id {number * 0x1234}\n")
    monkeypatch.setattr(amd, "NODES", tmp_path / "nodes")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, [0, 1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "2,1"}, [2, 1]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-0000000000002468"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "1"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "0"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
    ],
)
def test_amds_cards_are_counted(
    amds: None, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], expected: list[int]
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert gpus() == [f"AMD-{number}" for number in expected]


def test_a_training_sees_its_own_card_of_amds_alone(amds: None) -> None:
    slots = make_slots("1-2")
    assert [slot.env["ROCR_VISIBLE_DEVICES"] for slot in slots] == ["1", "2"]
    assert {slot.env["HIP_VISIBLE_DEVICES"] for slot in slots} == {"0"}
    (pair,) = make_slots("0,2", gpus_per_training=2)
    assert (pair.env["ROCR_VISIBLE_DEVICES"], pair.env["HIP_VISIBLE_DEVICES"]) == ("0,2", "0,1")
    assert worker_env(slots)["ROCR_VISIBLE_DEVICES"] == "1,2"


# --- threads


def test_a_training_on_a_gpu_has_its_share_of_the_cores(cards: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.workers.node.supervisor._cores", lambda: 16)
    assert {slot.env["OMP_NUM_THREADS"] for slot in make_slots("all")} == {"4"}
    assert {slot.env["OMP_NUM_THREADS"] for slot in make_slots("0-1", gpus_per_training=0.1)} == {"1"}
    assert {slot.env["OMP_NUM_THREADS"] for slot in make_slots("all", threads=7)} == {"7"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert {slot.env["OMP_NUM_THREADS"] for slot in make_slots("all")} == {"3"}
    assert {slot.env["OMP_NUM_THREADS"] for slot in make_slots(slots=2)} == {"1"}


def test_memory_and_load_of_the_cards_are_told_as_far_as_the_driver_does(cards: Gpus) -> None:
    cards.has(card(0, used=20480), "load 37", card(1, total=0), card(2), f"mig {part(0)} 9984 1248 7 0")
    told = {each["uuid"]: (each["used"], each["total"], each["load"]) for each in look([uuid(0), uuid(1), part(0)])}
    mib = 1 << 20
    assert told == {
        uuid(0): (20480 * mib, 81920 * mib, 37),
        uuid(1): (None, None, 0),
        part(0): (1248 * mib, 9984 * mib, None),
    }
    with cards.trouble("fail"):
        driver.close()
        assert look([uuid(0)]) == []
