"""What dask-swarm does on one NVIDIA GPU, check by check, as lines and as JSON; called by check.sh.

Each check passes, fails, or is skipped with the reason. With ``--cpu`` those that need a GPU are skipped, and the
others train on CPU slots.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SEARCH = """name: {name}
problem: {module}:{train}
direction: minimize
space: {{rate: {{real: [1.0e-4, 1.0e-2]}}}}
optimizer: {{name: Random, trials: {trials}}}
seed: 3
archive: false
{more}
"""
NEAR = 300 << 20  # bytes: memory within this is given back
_SECONDS = {"torch": 45, "jax": 45, "keras": 60, "numpy": 30}


class Failed(Exception):
    """A check has found something else than it should; the text says what."""


class Skipped(Exception):
    """A check was not run; the text says why."""


class Checks:
    """What was checked.

    Args:
        out: Folder of all that is written.
        cpu: Whether there is no GPU to be checked.
        began: When the script was started, seconds since the epoch.
        seconds: How long all may take.
        only: Names of the checks to run; none runs all.
    """

    def __init__(self, out: Path, cpu: bool, began: float, seconds: float, only: tuple[str, ...] = ()) -> None:
        self.out, self.cpu, self.began, self.seconds, self.only = out, cpu, began, seconds, only
        self.found: list[dict[str, Any]] = []
        self.trainings = self.out / "trainings.py"
        shutil.copy(HERE / "trainings.py", self.trainings)  # the project's own folder is no place for a store

    @property
    def left(self) -> float:
        """Seconds."""
        return self.began + self.seconds - time.time()

    def run(self, name: str, seconds: float, check: Callable[[], dict[str, Any]], *, gpu: bool = True) -> None:
        """Run one check, if there is time, and write down what it found."""
        start, state, said, figures = time.time(), "pass", "", {}
        try:
            if self.only and name not in self.only:
                raise Skipped("not asked for (--only)")
            if gpu and self.cpu:
                raise Skipped("needs a GPU (--cpu)")
            if self.left < seconds:
                raise Skipped(f"no time left: it may take {seconds:.0f} s, and {self.left:.0f} are left (--seconds)")
            figures = check()
        except Skipped as why:
            state, said = "skip", str(why)
        except Exception as why:  # the next check may do better
            state, said = "fail", f"{type(why).__name__}: {why}" if not isinstance(why, Failed) else str(why)
        row = {"check": name, "state": state, "said": said, "seconds": round(time.time() - start, 2), **figures}
        self.found.append(row)
        shown = ", ".join(f"{key} {value}" for key, value in figures.items())
        print(f"[{time.time() - self.began:4.0f} s] {state.upper():4} {name}: {said or shown}", flush=True)

    # --- trainings

    def environment(self, notes: Path, **more: str) -> dict[str, str]:
        """What ``swarm run`` is started with."""
        path = os.pathsep.join(filter(None, [str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]))
        installed = importlib.util.find_spec("swarm") is not None and not (HERE.parent.parent / "swarm").is_dir()
        return {
            **os.environ,
            **({} if installed else {"PYTHONPATH": path}),
            "CHECK_NOTES": str(notes),
            "CHECK_STEPS": "20" if self.cpu else "200",
            "TMPDIR": str(self.out),
            **more,
        }

    @contextmanager
    def search(self, name: str, train: str, trials: int, *options: str, more: str = "", **env: str) -> Iterator[Any]:
        """A run under way, and the file that its trainings write to."""
        notes, log = self.out / f"{name}.jsonl", self.out / f"{name}.log"
        notes.unlink(missing_ok=True)
        job = self.out / f"{name}.yaml"
        text = SEARCH.format(name=name, module=self.trainings.name, train=train, trials=trials, more=more)
        job.write_text(text, encoding="utf-8")
        command = "from swarm.cli import main; main()"
        slots = [] if not self.cpu or "--slots" in options else ["--slots", "1"]
        arguments = ["run", str(job), "--store", str(self.out / f"{name}.db"), *slots, *options]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", command, *arguments],
                env=self.environment(notes, **env),
                cwd=self.out,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process, notes
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def trained(self, name: str, train: str, trials: int, *options: str, **more: Any) -> dict[str, Any]:
        """Train to the end; figures of it.

        Raises:
            Failed: Not all were trained.
        """
        framework = train.removeprefix("with_").partition("_")[0]
        need(framework)
        start = time.time()
        with self.search(name, train, trials, *options, **more) as (process, notes):
            try:
                code = process.wait(max(5.0, self.left))
            except subprocess.TimeoutExpired:
                raise Failed(f"not done in the time that was left, see {name}.log") from None
        rows = read(notes)
        if code or len(rows) != trials:
            last = (self.out / f"{name}.log").read_text(errors="replace").strip().splitlines()[-3:]
            raise Failed(f"exit code {code}, {len(rows)} of {trials} trained: {' | '.join(last)}")
        return {"rows": rows, "start": start}

    def log(self, name: str) -> str:
        """What a run has said."""
        return (self.out / f"{name}.log").read_text(errors="replace")


def need(framework: str) -> None:
    """Skip what is not installed."""
    for module in {"keras": ("keras",), "numpy": ("numpy",)}.get(framework, (framework,)):
        if importlib.util.find_spec(module) is None:
            raise Skipped(f"{module} is not installed")


def read(notes: Path) -> list[dict[str, Any]]:
    """What the trainings have written down, in the order in which they began."""
    if not notes.exists():
        return []
    return sorted(map(json.loads, notes.read_text(encoding="utf-8").splitlines()), key=lambda row: row["begin"])


def card() -> Any:
    """The GPU as its driver tells."""
    from swarm.workers.cards import choice, driver

    seen = driver.look()
    devices = [] if seen is None else choice.usable(seen.devices)
    if not devices:
        raise Failed("NVIDIA's driver lists no GPU")
    return devices[0]


def in_use() -> int:
    """Bytes of the GPU's memory."""
    device = card()
    return int(device.total - device.free)


def given_back(before: int, seconds: float) -> dict[str, Any]:
    """Wait until no more memory is in use than before.

    Raises:
        Failed: It was not in time.
    """
    start = time.monotonic()
    while (used := in_use()) > before + NEAR:
        if time.monotonic() - start > seconds:
            raise Failed(f"{(used - before) >> 20} MiB more than before are in use after {seconds:g} s")
        time.sleep(0.05)
    return {"before_mib": before >> 20, "after_mib": used >> 20, "waited_s": round(time.monotonic() - start, 2)}


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for what other processes do.

    Raises:
        Failed: It was not in time.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"{what} within {seconds:g} s")
        time.sleep(0.05)
    return found


def speed(rows: list[dict[str, Any]], start: float) -> dict[str, Any]:
    """Figures of trainings that have ended."""
    wall = max(row["end"] for row in rows) - min(row["begin"] for row in rows)
    moments = sorted([(row["begin"], 1) for row in rows] + [(row["end"], -1) for row in rows])
    at_once = most = 0
    for _, change in moments:
        at_once += change
        most = max(most, at_once)
    later = [row["first"] - row["begin"] for row in rows[1:]]
    return {
        "trainings": len(rows),
        "at_a_time": most,
        "steps_per_s": round(sum(row["steps"] for row in rows) / max(wall, 1e-9), 1),
        "start_to_first_step_s": round(rows[0]["first"] - start, 2),
        "begin_to_first_step_s": round(sorted(later)[len(later) // 2], 3) if later else None,
        "import_s": [round(row["imported"] - row["begin"], 2) for row in rows][:3],
    }


def pinned(rows: list[dict[str, Any]], cpu: bool) -> None:
    """See that each training saw the one GPU, and was forked from a process that has touched none.

    Raises:
        Failed: One did not.
    """
    for row in rows:
        if row["server_threads"] != 1 or row["server_holds"]:
            raise Failed(f"forked from a process with {row['server_threads']} threads that holds {row['server_holds']}")
        if cpu:
            continue
        if row["gpu"] != card().uuid or row.get("gpus", 1) != 1:
            raise Failed(f"a training was shown {row['gpu']}, {row.get('gpus')} GPUs, not {card().uuid} alone")


# --- the checks


def discovery() -> dict[str, Any]:
    """The driver is asked, and a UUID may be cut short."""
    from swarm.workers.cards import driver
    from swarm.workers.node.gpu import devices

    device = card()
    start = time.perf_counter()
    for _ in range(10):
        driver.look()
    took = (time.perf_counter() - start) / 10
    names = [each.uuid for each in devices({"CUDA_VISIBLE_DEVICES": device.uuid[:12]})]
    if names != [device.uuid]:
        raise Failed(f"{device.uuid[:12]} was taken for {names}")
    return {
        "name": device.name,
        "uuid": device.uuid,
        "memory_mib": device.total >> 20,
        "in_use_mib": (device.total - device.free) >> 20,
        "look_ms": round(1000 * took, 2),
    }


def doctor(checks: Checks) -> dict[str, Any]:
    """What swarm doctor says here."""
    env = checks.environment(checks.out / "none", DASK_SWARM__STORE=f"sqlite:///{checks.out}/doctor.db")
    command = [sys.executable, "-c", "from swarm.cli import main; main()", "doctor", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=max(5.0, checks.left), check=False)
    told = json.loads(done.stdout)
    bad = [f"{each['name']}: {each['said']}" for each in told["checks"] if each["state"] == "bad"]
    if bad:
        raise Failed("; ".join(bad))
    return {"doctor": {each["name"]: f"{each['state']}: {each['said']}" for each in told["checks"]}}


def framework(checks: Checks, name: str, train: str, trials: int = 4, **env: str) -> dict[str, Any]:
    """Trainings are pinned, and forked from a process that has touched no GPU."""
    found = checks.trained(name, train, trials, **env)
    pinned(found["rows"], checks.cpu)
    return speed(found["rows"], found["start"])


def poisoned(checks: Checks, name: str, train: str) -> dict[str, Any]:
    """Trainings work although prepare() has used the GPU: they are told apart from it, and that is said."""
    found = checks.trained(name, train, 2)
    if "cannot be forked" not in checks.log(name):
        raise Failed("that prepare() has used the GPU was not said")
    return speed(found["rows"], found["start"])


def returned(checks: Checks) -> dict[str, Any]:
    """Twenty trainings leave no memory in use."""
    before = in_use()
    found = checks.trained("twenty", "with_torch", 20, CHECK_STEPS="50")
    return {**given_back(before, 10), **speed(found["rows"], found["start"])}


def killed(checks: Checks, number: signal.Signals) -> dict[str, Any]:
    """A run that is ended amid a training leaves no process, and no memory in use."""
    train, name = ("with_numpy" if checks.cpu else "with_torch"), f"killed-{number.name.lower()}"
    need(train.removeprefix("with_"))
    before = 0 if checks.cpu else in_use()
    endless = {"CHECK_STEPS": "100000000", "CHECK_HOLD_MIB": "2000"}
    with checks.search(name, train, 4, **endless) as (process, notes):
        if checks.cpu:
            child = wait_for(lambda: training_of(process.pid), 60, "no training began")
        else:
            child = wait_for(lambda: read(notes), 60, "no training began")[0]["pid"]
            wait_for(lambda: in_use() > before + (1500 << 20), 20, "its memory was not taken")
        start = time.monotonic()
        process.send_signal(number)
        process.wait(30)
        wait_for(lambda: not Path(f"/proc/{child}").exists(), 20, f"the training {child} has not ended")
        gone = time.monotonic() - start
    return {"gone_s": round(gone, 2), **({} if checks.cpu else given_back(before, 10))}


def training_of(runner: int) -> int | None:
    """The process of a training below a run: the child of a server."""
    import psutil

    servers = [each for each in psutil.Process(runner).children(recursive=True) if is_server(each)]
    inner = [each.pid for each in servers if each.ppid() in {server.pid for server in servers}]
    return inner[0] if inner else None


def is_server(process: Any) -> bool:
    """Whether it is a server, or was forked from one."""
    import psutil

    try:
        return any("swarm.workers.isolation" in word for word in process.cmdline())
    except psutil.Error:
        return False


def stranger(checks: Checks) -> dict[str, Any]:
    """A training waits for what somebody else holds, says so, and begins when that is given back."""
    need("torch")
    hold = int(card().total * 0.5)
    held = "import sys, torch; x = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device='cuda')"
    command = [sys.executable, "-c", f"{held}; print(1, flush=True); sys.stdin.read()", str(hold)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        checks.trained("modest", "with_torch", 1, more="gpu_memory: 2GB")
        with checks.search("waiting", "with_torch", 1) as (process, notes):
            line = f"process {holder.pid} "
            wait_for(lambda: "waits for its GPU" in checks.log("waiting"), 60, "why the slot waits was not said")
            named, begun = line in checks.log("waiting"), bool(read(notes))
            holder.kill()
            code = process.wait(60)
        if begun or code:
            raise Failed(f"a training began beside {hold >> 30} GiB of a stranger's" if begun else f"exit code {code}")
    return {"held_mib": hold >> 20, "stranger_named": named}


def shared(checks: Checks, train: str, share: float) -> dict[str, Any]:
    """Several trainings on the GPU: how many steps they make in all."""
    count = round(1 / share)
    options = ["--slots", str(count)] if checks.cpu else []
    name = f"{train.removeprefix('with_')}-on-{count}"
    env = {"CHECK_STEPS": "2000" if checks.cpu else "600"}
    found = checks.trained(name, train, 4 if checks.cpu else 8, *options, "--gpus-per-training", str(share), **env)
    return speed(found["rows"], found["start"])


def deterministic(checks: Checks) -> dict[str, Any]:
    """The same trainings give the same numbers, to the last bit, if they are told to."""
    need("torch")
    best = []
    for name in ("equal-1", "equal-2"):
        checks.trained(name, "with_torch", 2, more="deterministic: true", CHECK_STEPS="100")
        best.append([line for line in checks.log(name).splitlines() if "fitness" in line][-1].split()[-1])
    if best[0] != best[1]:
        raise Failed(f"{best[0]} and {best[1]}")
    return {"fitness": best[0]}


def all_checks(checks: Checks) -> None:
    """One after the other, what matters most first."""
    checks.run("doctor", 60, lambda: doctor(checks), gpu=False)
    checks.run("discovery", 10, discovery)
    if checks.cpu:
        checks.run("numpy", 30, lambda: framework(checks, "numpy", "with_numpy"), gpu=False)
    for name in ("torch", "jax"):
        checks.run(name, _SECONDS[name], lambda name=name: framework(checks, name, f"with_{name}"), gpu=False)
    checks.run("torch-looks", 40, lambda: framework(checks, "torch-looks", "torch_that_looks", 2), gpu=False)
    checks.run("torch-poisoned", 40, lambda: poisoned(checks, "torch-poisoned", "torch_that_uses"))
    checks.run("jax-poisoned", 40, lambda: poisoned(checks, "jax-poisoned", "jax_that_uses"))
    checks.run("killed", 40, lambda: killed(checks, signal.SIGKILL), gpu=False)
    checks.run("interrupted", 40, lambda: killed(checks, signal.SIGINT), gpu=False)
    checks.run("returned", 60, lambda: returned(checks))
    checks.run("stranger", 60, lambda: stranger(checks))
    for share in (1, 0.5, 0.25):
        train = "with_numpy" if checks.cpu else "with_torch"
        checks.run(f"share-{share:g}", 40, lambda share=share, train=train: shared(checks, train, share), gpu=False)
    checks.run("share-jax-0.5", 40, lambda: shared(checks, "with_jax", 0.5))
    for backend in ("torch", "jax"):
        checks.run(f"keras-{backend}", 60, lambda backend=backend: keras_on(checks, backend), gpu=False)
    checks.run("deterministic", 60, lambda: deterministic(checks))


def keras_on(checks: Checks, backend: str) -> dict[str, Any]:
    """Keras on a backend."""
    need(backend)
    return framework(checks, f"keras-{backend}", "with_keras", 3, KERAS_BACKEND=backend)


def versions() -> dict[str, str]:
    """Of what matters here, as far as it is installed."""
    found = {}
    for name in ("dask-swarm", "dask", "distributed", "torch", "jax", "keras", "numpy", "nvidia-ml-py"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> int:
    """Check, and write ``gpu-check.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--began", type=float, default=time.time(), help="when the script was started")
    parser.add_argument("--seconds", type=float, default=470, help="how long all may take")
    parser.add_argument("--only", default="", help="names of checks, with commas")
    parser.add_argument("--cpu", action="store_true", help="there is no GPU: check the rest")
    given = parser.parse_args()
    if not given.cpu or importlib.util.find_spec("swarm") is None:
        sys.path.insert(0, str(HERE.parent.parent))
    out = given.out.absolute()
    checks = Checks(out, given.cpu, given.began, given.seconds, tuple(filter(None, given.only.split(","))))
    all_checks(checks)
    result = {
        "benchmark": "gpu-check",
        "cpu": given.cpu,
        "seconds": round(time.time() - given.began, 1),
        "machine": {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "versions": versions()},
        "checks": checks.found,
    }
    (out / "gpu-check.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    counts = {state: sum(row["state"] == state for row in checks.found) for state in ("pass", "fail", "skip")}
    print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} not run; {out / 'gpu-check.json'}")
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
