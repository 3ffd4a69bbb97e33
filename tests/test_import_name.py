"""The trainings' code is ``swarm.workers``; ``workers`` is the user's name, and an old one where no user has it."""

from __future__ import annotations

import base64
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from swarm.job.problem import Problem
from swarm.workers.models import PROBLEMS

ROOT = Path(__file__).parent.parent
SCRIPT = """
import sys
import swarm
import workers

def train(params, ctx):
    return workers.score(params["x"])

if __name__ == "__main__":
    space, optimizer = {"x": swarm.Real(0, 1)}, swarm.Random(trials=3)
    job = swarm.Job(name="mine", problem=train, space=space, optimizer=optimizer, isolation=sys.argv[1])
    found = swarm.run(job, slots=1, store="swarm.db", progress=False)
    print(found.counts["trained"], 10 <= found.best.fitness <= 11)
"""
TRAIN = """
def train(params, ctx):
    from workers.scoring import score
    return score(params["x"])
"""
JOB = """
name: mine
problem: train.py:train
isolation: {isolation}
space: {{x: {{real: [0, 1]}}}}
optimizer: {{name: Random, trials: 3}}
"""
EARLIER_TRAIN = """
from workers.context import Context

def train(params, ctx):
    from workers.checkpoint import Checkpoint
    from swarm.workers.checkpoints import checkpoint
    if not isinstance(ctx, Context) or Checkpoint is not checkpoint.Checkpoint:
        raise TypeError("imported twice")
    return params["x"]
"""
SCORE = "def score(x):\n    return 10 + x\n"
EARLIER = base64.b64decode(  # digits-cnn, as version 0.1.0 pickled it while the package was named workers
    "gARjd29ya2Vycy5idW5kbGUKdW5wYWNrCo4kAAAAAAAAAHicq1bKTczMU7JSyCvNydFRUMrNTynNSS0GClTX1gIAj+kJ0o4rAgAAAAAAAIAFlSAC"
    "AAAAAAAAXZSMFXdvcmtlcnMua2VyYXMucHJvYmxlbZSMDEtlcmFzUHJvYmxlbZSTlCmBlH2UKIwFYnVpbGSUjBl3b3JrZXJzLm1vZGVscy5kaWdp"
    "dHNfY25ulGgGk5SMBG5hbWWUjApkaWdpdHMtY25ulIwEZGF0YZSMBmRpZ2l0c5SMBmVwb2Noc5RLBYwKYmF0Y2hfc2l6ZZRLIIwJb3B0aW1pemVy"
    "lIwEYWRhbZSMDWxlYXJuaW5nX3JhdGWURz9QYk3S8an8jAx3ZWlnaHRfZGVjYXmURwAAAAAAAAAAjARsb3NzlIwfc3BhcnNlX2NhdGVnb3JpY2Fs"
    "X2Nyb3NzZW50cm9weZSMCHBhdGllbmNllE6MBXRyYWlulE6MBnNwbGl0c5RLCowFc2NvcmWUjAhhY2N1cmFjeZSMCmNoYW5nZWFibGWUKGgRaA5o"
    "EowHZHJvcG91dJR0lIwHZGV2aWNlc5ROjAVzcGFjZZR9lCiMB2ZpbHRlcnOUfZQojAdpbnRlZ2VylF2UKEsCSyBljAdkZWZhdWx0lEsIdYwEc2l6"
    "ZZR9lChoIl2UKEsCSwVlaCRLA3WMBHBvb2yUfZQoaCJdlChLAksEZWgkSwJ1jAV1bml0c5R9lChoIl2UKEsIS4BlaCRLIHVoEX2UKIwEcmVhbJRd"
    "lChHPxo24uscQy1HP9MzMzMzMzNljANsb2eUiGgkRz9QYk3S8an8dXV1YoaULoZSLg=="
)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def told(folder: Path, *command: str, **env: str) -> str:
    """What a command says that runs in a folder."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def python(folder: Path, code: str, **env: str) -> str:
    return told(folder, sys.executable, "-c", code, **env)


# --- a user's own module of that name


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("own", ["workers.py", "workers/__init__.py"])
def test_a_script_has_a_module_workers_of_its_own_beside_it(tmp_path: Path, own: str, isolation: str) -> None:
    write(tmp_path, {"script.py": SCRIPT, own: SCORE})
    assert told(tmp_path, sys.executable, "script.py", isolation) == "3 True"


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_training_of_a_job_file_imports_a_package_workers_from_beside_it(tmp_path: Path, isolation: str) -> None:
    files = {"train.py": TRAIN, "workers/__init__.py": "", "workers/scoring.py": SCORE}
    write(tmp_path / "job", {**files, "job.yaml": JOB.format(isolation=isolation)})
    swarm = [sys.executable, "-c", "from swarm.cli import main; main()"]
    told(tmp_path, *swarm, "run", "job/job.yaml", "--slots", "1", "--store", "swarm.db")
    assert told(tmp_path, *swarm, "best", "mine", "--store", "swarm.db").startswith("x: 0.")


def test_a_users_module_counts_and_travels_as_any_other_of_the_users(tmp_path: Path) -> None:
    def fingerprint(score: str) -> str:
        write(tmp_path, {"train.py": TRAIN, "workers/__init__.py": "", "workers/scoring.py": score})
        code = (
            "from swarm.job.problem import Problem; found = Problem.find('train.py:train', {})\n"
            "print(found.fingerprint); open('problem', 'wb').write(found.pickle)"
        )
        return python(tmp_path, code)

    first = fingerprint(SCORE)
    assert fingerprint(SCORE) == first != fingerprint(SCORE.replace("10", "20"))
    shutil.rmtree(tmp_path / "workers")
    call = f"from swarm.workers.problem import load; print(load(open({str(tmp_path / 'problem')!r}, 'rb').read())"
    assert python(Path("/"), call + "({'x': 4}, None))") == "24"


def test_a_job_finds_the_workers_beside_it_after_an_old_name_was_said(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": TRAIN, "workers/__init__.py": "", "workers/scoring.py": SCORE})
    code = (
        "import sys, swarm, workers.keras; from swarm.job.problem import Problem; from pathlib import Path\n"
        f"Problem.find('train.py:train', {{}}, Path({str(tmp_path)!r}))\n"
        "print(sys.modules['train'].train({'x': 1}, None))\n"
    )
    assert python(Path("/"), code) == "11"


def test_a_problem_of_an_earlier_version_is_loaded_beside_a_users_own_workers(tmp_path: Path) -> None:
    write(tmp_path, {"workers.py": SCORE, "problem": "", "main.py": ""})
    (tmp_path / "problem").write_bytes(EARLIER)
    code = (
        "import workers; from swarm.workers.bundle import Bundle; from swarm.workers.problem import load\n"
        "data = open('problem', 'rb').read(); found = load(data)\n"
        "print(type(found).__module__, found.name, Bundle.of(data) is None, workers.score(1))"
    )
    assert python(tmp_path, code) == "swarm.workers.keras.problem digits-cnn False 11"


def test_a_users_package_is_not_mixed_with_ours(tmp_path: Path) -> None:
    write(tmp_path, {"workers/__init__.py": "", "workers/scoring.py": SCORE})
    code = "import swarm\ntry:\n    import workers.keras\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    assert python(tmp_path, code) == "workers.keras"


# --- old names, where no user has a module of that name

SAME = (
    "import workers.models.lenet4, workers.slots, workers.keras.layers, swarm.workers.node.supervisor, sys\n"
    "ours = {name: each for name, each in sys.modules.items() if name.split('.')[0] == 'workers'}\n"
    "print(workers is swarm.workers, workers.slots is swarm.workers.node.supervisor,\n"
    "      {each.__name__.partition('.')[0] for each in ours.values()}, workers.__spec__.name,\n"
    "      all(each is sys.modules[each.__name__] for each in ours.values()))"
)


@pytest.mark.parametrize("before", ["", "import swarm\n", "import swarm.workers.keras\n"])
def test_one_module_answers_to_both_names_in_a_checkout(before: str) -> None:
    assert python(ROOT, before + SAME) == "True True {'swarm'} swarm.workers True"


@pytest.mark.parametrize("name", ["workers.nothing", "workers.keras.nothing", "workers.nothing.more"])
def test_a_name_that_was_none_of_ours_is_not_found(name: str) -> None:
    code = f"import swarm\ntry:\n    import {name}\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    assert python(ROOT, code) in (name, name.rpartition(".")[0])


# --- what is installed


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, and the source distribution."""
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("the wheel is built by setuptools 77 or later: make install")
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    for name in ("swarm", "workers"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for build in ("build_wheel", "build_sdist"):
        python(source, f"from setuptools import build_meta; build_meta.{build}({str(folder)!r})")
    return folder


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    """The wheel, unpacked as pip does it."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "site")
    return built / "site"


def test_the_wheel_has_the_trainings_code_below_swarm_and_no_name_besides(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert names == {"swarm"}
    here = {path.relative_to(ROOT / "workers") for path in (ROOT / "workers").rglob("*.py")}
    there = installed / "swarm" / "workers"
    assert {path.relative_to(there) for path in there.rglob("*.py")} == here
    assert (there / "py.typed").is_file() and not there.is_symlink()


def test_the_source_distribution_has_it_once(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert "swarm/workers/evaluate.py" in names
    assert not [name for name in names if name.split("/")[0] == "workers"]


def in_site(folder: Path, site: Path, code: str) -> str:
    """What code says where this package is installed, and its checkout is not."""
    head = f"import sys; sys.path[:] = [each for each in sys.path if each != {str(ROOT)!r}]\n"
    return python(folder, head + code, PYTHONPATH=str(site))


def test_the_name_is_free_where_the_wheel_is_installed(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('workers'))"
    assert in_site(tmp_path, installed, code) == "None"
    write(tmp_path, {"workers.py": SCORE})
    assert in_site(tmp_path, installed, "import swarm, workers; print(workers.score(1))") == "11"


def test_one_module_answers_to_both_names_where_the_wheel_is_installed(installed: Path, tmp_path: Path) -> None:
    assert in_site(tmp_path, installed, "import swarm\n" + SAME) == "True True {'swarm'} swarm.workers True"


def test_one_module_answers_to_both_names_where_a_checkout_is_on_the_path_as_well(installed: Path) -> None:
    head = f"import sys; sys.path.insert(0, {str(installed)!r})\n"
    assert python(ROOT, head + SAME) == "True True {'swarm'} swarm.workers True"


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_problem_that_says_old_names_is_trained(installed: Path, tmp_path: Path, isolation: str) -> None:
    write(tmp_path, {"train.py": EARLIER_TRAIN, "job.yaml": JOB.format(isolation=isolation)})
    command = ["swarm", "run", "job.yaml", "--slots", "1", "--store", "swarm.db"]
    in_site(tmp_path, installed, f"from swarm.cli import main; sys.argv = {command!r}; main()")
    code = "from swarm.cli import main; sys.argv = ['swarm', 'best', 'mine', '--store', 'swarm.db']; main()"
    assert in_site(tmp_path, installed, code).startswith("x: 0.")


def test_dask_preloads_an_old_name_in_a_process_that_has_not_imported_us(installed: Path, tmp_path: Path) -> None:
    code = (
        "from distributed.preloading import process_preloads\n"
        "(found,) = process_preloads(None, 'workers.slots', []); print(found.module.__name__)"
    )
    assert in_site(tmp_path, installed, code) == "swarm.workers.node.supervisor"


# --- identity


FORMS = {
    "at the top": "from {}.models.lenet4 import build\ndef train(params, ctx):\n    return build(params, 1, 2)\n",
    "in the training": (
        "def train(params, ctx):\n    from {}.recurrent.sampling import MaeSampling\n    return MaeSampling()\n"
    ),
    "by another name": "import {}.keras as k\ndef train(params, ctx):\n    return k.KerasProblem\n",
    "a class": (
        "from {0}.keras import KerasProblem\nfrom {0}.models import lenet5\nclass Mine(KerasProblem):\n"
        "    def test(self, params, ctx):\n        return 1.0\n"
        "train = Mine(build=lenet5.build, name='n', data='mnist', space=lenet5.SPACE)\n"
    ),
}


def test_a_training_is_the_same_by_the_old_name_and_by_that_of_now(tmp_path: Path) -> None:
    names = ("workers", "swarm.workers")
    write(
        tmp_path,
        {f"{m}_{n}.py": FORMS[form].format(name) for m, form in enumerate(FORMS) for n, name in enumerate(names)},
    )
    code = (
        "from swarm.job.problem import Problem\n"
        f"for form in range({len(FORMS)}):\n"
        "    print(*(Problem.find(f'{form}_{n}.py:train', {}).fingerprint for n in (0, 1)))"
    )
    pairs = [line.split() for line in python(tmp_path, code).splitlines()]
    assert [old == new for old, new in pairs] == [True] * len(FORMS)
    assert len({old for old, _ in pairs}) == len(FORMS)


def test_a_change_of_ours_counts_however_it_is_imported(tmp_path: Path) -> None:
    copy = tmp_path / "site"
    shutil.copytree(ROOT / "swarm", copy / "swarm", ignore=shutil.ignore_patterns("__pycache__"))
    text = "import swarm.workers.models.lenet4\ndef train(params, ctx):\n    return {}.build(params, 1, 2)\n"
    write(tmp_path, {"train.py": text.format("swarm.workers.models.lenet4")})
    code = "from swarm.job.problem import Problem; print(Problem.find('train.py:train', {}).fingerprint)"
    before = python(tmp_path, code, PYTHONPATH=str(copy))
    file = copy / "swarm" / "workers" / "models" / "lenet4.py"
    file.write_text(file.read_text().replace('"01"', '"0"'))
    assert python(tmp_path, code, PYTHONPATH=str(copy)) != before


BUILT_IN = {
    ("capsnet", None): "85b396040361c18e",
    ("command", "echo FoM: {x}"): "156884ea43fa5eef",
    ("digits-cnn", None): "4f8620668f00a4ef",
    ("digits-mlp", None): "554d56785f87c5b3",
    ("lenet", None): "16d321d80910e21b",
    ("lenet-time", None): "2d79a096776f22d2",
    ("lenet4", None): "aa2aea8a9dc957d7",
    ("lenet5", None): "cb7a35b31122f0b3",
    ("mae-sampling", None): "8ec87043381abf07",
    ("nhop", None): "913ddf4c93377ba2",
    ("p3b1", None): "9cca57befde012c9",
    ("recurrent", None): "70bee7ac135add7d",
    ("resnet20", None): "8a065c41010ca089",
    ("rpv", None): "18a03fb5d582c232",
    ("seq2seq", None): "dc3638c57339b503",
    ("simplenet1", None): "1a6b15845cc46136",
    ("weights", None): "3dd0ffd557cc72f2",
    ("workers.ensemble:problem", "digits-cnn"): "bc467b45ad5c9066",
    ("workers.models.lenet4:problem", 100): "433bde15dc73f9c1",
}
"""The fingerprint of each. Who changes what a built-in problem trains changes its value here, too, and says in the
changelog that archives do not answer it any more.
"""


@pytest.mark.parametrize(("name", "made_of"), BUILT_IN)
def test_the_fingerprint_of_a_built_in_problem_changes_on_purpose_alone(name: str, made_of: str | int | None) -> None:
    options = {"command": {"command": made_of}, "ensemble": {"of": made_of}, "lenet4": {"train": made_of}}
    given = options[name.rsplit(".", maxsplit=1)[-1].partition(":")[0]] if made_of else {}
    assert Problem.find(name, given).fingerprint == BUILT_IN[name, made_of]


def test_every_built_in_problem_has_its_value_here() -> None:
    assert {name for name, _ in BUILT_IN if ":" not in name} == PROBLEMS.keys()
