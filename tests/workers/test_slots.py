"""Slots of a machine, and the supervisor of their worker processes, with real schedulers that are really killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import free_port

from swarm.errors import InvalidInput, InvalidJob
from swarm.job import Job
from swarm.trial import Trial, resource
from swarm.workers.node.listen import check_exposed, listening_host
from swarm.workers.node.supervisor import address_of, make_slots, nanny_options

BIN = Path(sys.executable).parent


def train(params: dict[str, int], ctx: object) -> float:
    return params["x"]


JOB = {
    "name": "a",
    "problem": train,
    "space": {"x": {"integer": [0, 9]}},
    "optimizer": {"name": "Random", "trials": 1},
}


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
    monkeypatch.setattr("swarm.workers.node.supervisor.gpus", lambda: found)
    return found


# --- what a machine offers


def test_a_gpu_is_a_slot(four_gpus: list[str]) -> None:
    slots = make_slots("all")
    assert [slot.gpus for slot in slots] == [(gpu,) for gpu in four_gpus]
    assert [slot.env["CUDA_VISIBLE_DEVICES"] for slot in slots] == four_gpus
    assert {slot.name.rsplit(":", 1)[1] for slot in slots} == set(four_gpus)
    assert [slot.gpus for slot in make_slots("2,GPU-a")] == [("GPU-c",), ("GPU-a",)]


def test_several_gpus_make_one_slot_and_those_left_over_are_reported(
    four_gpus: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert [slot.env["CUDA_VISIBLE_DEVICES"] for slot in make_slots("all", gpus_per_training=2)] == [
        "GPU-a,GPU-b",
        "GPU-c,GPU-d",
    ]
    assert not caplog.text
    (slot,) = make_slots("all", gpus_per_training=3)
    assert slot.gpus == ("GPU-a", "GPU-b", "GPU-c")
    assert nanny_options(slot)["resources"] == {"GPU-3": 1}
    assert caplog.messages == ["not used, since a training takes 3 GPUs: GPU-d"]
    with pytest.raises(InvalidInput, match=r"a training is to have 8 GPUs, but there are 4: GPU-a, "):
        make_slots("all", gpus_per_training=8)


def test_several_slots_share_a_gpu(four_gpus: list[str]) -> None:
    slots = make_slots("0,1", gpus_per_training=0.5)
    assert [slot.name.split(":", 1)[1] for slot in slots] == ["GPU-a/0", "GPU-a/1", "GPU-b/0", "GPU-b/1"]
    assert [slot.env["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]
    assert nanny_options(slots[0])["resources"] == {"GPU-0.5": 1}
    assert len(make_slots("0", gpus_per_training=0.33)) == 3


def test_slots_without_gpus_are_of_the_same_classes() -> None:
    slots = make_slots(slots=2, gpus_per_training=2)
    assert nanny_options(*slots)["resources"] == {"GPU-2": 2}
    assert {slot.env["CUDA_VISIBLE_DEVICES"] for slot in slots} == {"-1"}


def test_a_gpu_that_is_named_twice_is_refused_with_the_remedy(four_gpus: list[str]) -> None:
    with pytest.raises(InvalidInput, match=r"GPU-b is named twice.*--gpus-per-training 0\.5"):
        make_slots("1,GPU-b")


def test_a_class_is_named_by_the_gpus_of_a_training() -> None:
    names = {1: "GPU", 2: "GPU-2", 8.0: "GPU-8", 0.5: "GPU-0.5", 0.25: "GPU-0.25", 0.125: "GPU-0.125"}
    assert {number: resource(number) for number in names} == names
    assert resource(0.33) == resource(1 / 3) == "GPU-0.333"


@pytest.mark.parametrize("number", [0, -1, 1.5, 0.7, 0.99, float("inf"), float("nan")])
def test_other_numbers_of_gpus_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="GPUs per training"):
        resource(number)
    with pytest.raises(InvalidInput, match="GPUs per training"):
        make_slots(slots=1, gpus_per_training=number)
    with pytest.raises(InvalidJob, match="GPUs per training"):
        Job(**JOB, gpus_per_training=number)


def test_what_a_job_finds_does_not_depend_on_the_gpus_of_its_slots() -> None:
    one, two = Job(**JOB), Job(**JOB, gpus_per_training=2)
    trial = Trial(id=0, params={"x": 1})
    assert one.gpus_per_training == 1
    assert one.evaluations(trial) == two.evaluations(trial)
    assert two.differences(one.to_dict()) == ["gpus_per_training is 2.0, was 1.0"]
    assert Job.from_dict(two.to_dict(), two.code.pickle).gpus_per_training == 2


# --- who may reach a worker


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.1.1"])
def test_the_loopback_interface_is_not_exposed(host: str) -> None:
    check_exposed(host, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1", "no-such-host.invalid"])
def test_listening_elsewhere_needs_tls_or_the_users_word(host: str) -> None:
    with pytest.raises(InvalidInput, match=r"could run code as you: .*TLS.*--insecure"):
        check_exposed(host, insecure=False)
    check_exposed(host, insecure=True)
    check_exposed(host, insecure=False, tls=True)


def test_a_worker_listens_on_the_way_to_its_scheduler() -> None:
    assert listening_host("tcp://127.0.0.1:8786") == "127.0.0.1"
    assert listening_host("localhost:8786") in ("127.0.0.1", "::1")
    assert listening_host("tls://127.0.0.1:8786", host="192.0.2.1") == "192.0.2.1"
    with pytest.raises(InvalidInput, match="could run code as you"):
        listening_host("tcp://127.0.0.1:8786", host="0.0.0.0")


@pytest.mark.parametrize("address", ["tcp://HOST:PORT", "", "tcp://", "tcp://[::1", ":8786"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="no address of a scheduler"):
        listening_host(address)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["tcp://127.0.0.1:9", "--scheduler-file", "s.json"], "not both"),
        (["tcp://127.0.0.1:9", "--slots", "1", "--host", "0.0.0.0"], "--insecure"),
        (["tls://127.0.0.1:9", "--slots", "1"], "distributed.comm.tls.ca-file"),
        (["tcp://127.0.0.1:9", "--slots", "1", "--gpus-per-training", "0.7"], "not 0.7"),
    ],
)
def test_a_worker_that_cannot_work_says_why_in_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    command = [BIN / "swarm", "worker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


# --- dialing


@pytest.mark.parametrize("text", ["", '{"type": "Scheduler", "addr', "[]", '{"type": "Scheduler"}'])
def test_a_scheduler_file_that_is_not_there_or_half_written_is_waited_for(tmp_path: Path, text: str) -> None:
    file = tmp_path / "scheduler.json"
    with pytest.raises(OSError, match="waiting for a scheduler to write"):
        address_of(file)
    file.write_text(text)
    with pytest.raises(OSError, match="names no scheduler"):
        address_of(file)


@contextlib.contextmanager
def background(*command: object, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, which is killed at the end."""
    process = subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def scheduler(file: Path) -> tuple[str, tuple[object, ...]]:
    """Address (without its scheme) and command of a scheduler on a free port that writes its address into a file."""
    port = free_port()
    command = (BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", port)
    return f"127.0.0.1:{port}", (*command, "--dashboard-address", "127.0.0.1:0", "--scheduler-file", file)


@pytest.mark.slow
def test_workers_find_a_killed_scheduler_where_it_is_started_again(tmp_path: Path) -> None:
    from distributed import Client

    file = tmp_path / "scheduler.json"
    with background(BIN / "swarm", "worker", "--scheduler-file", file, "--slots", "2", "--gpus-per-training", "2"):
        for _ in range(2):
            address, command = scheduler(file)
            with background(*command), Client(f"tcp://{address}", timeout="60s") as client:
                client.wait_for_workers(1, timeout=120)
                (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
                assert (worker["resources"], worker["nthreads"]) == ({"GPU-2": 2}, 2)
            assert address_of(file) == f"tcp://{address}"  # it was killed, and could not remove the file


@pytest.mark.slow
def test_under_tls_workers_show_the_certificate_of_dasks_configuration(tmp_path: Path) -> None:
    from distributed import Client
    from distributed.security import Security

    key, cert, file = (str(tmp_path / name) for name in ("key.pem", "cert.pem", "scheduler.json"))
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=swarm", "-days", "1"]
    subprocess.run([*request, "-keyout", key, "-out", cert], check=True, capture_output=True)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    env = {f"{tls}CA_FILE": cert, f"{tls}WORKER__KEY": key, f"{tls}WORKER__CERT": cert}
    address, command = scheduler(Path(file))
    files = ("--protocol", "tls", "--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key)
    worker = (BIN / "swarm", "worker", f"tls://{address}", "--slots", "1", "--host", "0.0.0.0")
    security = Security(tls_ca_file=cert, tls_client_cert=cert, tls_client_key=key, require_encryption=True)
    with (
        background(*command, *files),
        background(*worker, env=env),
        Client(f"tls://{address}", security=security, timeout="60s") as client,
    ):
        client.wait_for_workers(1, timeout=120)
        (found,) = client.scheduler_info()["workers"]
        assert found.startswith("tls://")
        assert client.submit(sum, [1, 2], resources={"GPU": 1}).result(timeout=60) == 3
