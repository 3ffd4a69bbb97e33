"""Alert rules and Grafana's dashboard: they ask for what the scheduler exports, and Prometheus understands them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from services import free_port
from test_master import job_of, mastered, scheduler, worker

from swarm import Random, Real
from swarm.client import Client

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
BOARD = ROOT / "deploy" / "grafana" / "dask-swarm.json"
GUIDE = ROOT / "docs" / "guides" / "metrics.md"

WORDS = {"by", "on", "ignoring", "and", "or", "unless", "offset"}
FUNCTIONS = {"sum", "min", "max", "rate", "increase", "changes", "max_over_time", "last_over_time"}
OF_PROMETHEUS = {"up"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board() -> dict[str, Any]:
    return dict(json.loads(BOARD.read_text(encoding="utf-8")))


def panels() -> list[dict[str, Any]]:
    return list(board()["panels"])


def queries() -> dict[str, str]:
    """What rules, panels and variables ask for, in PromQL."""
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in panels():
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for variable in board()["templating"]["list"]:
        if variable["type"] == "query":
            values = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
            assert values is not None
            found[f"${variable['name']}"] = values[1]
    return found


def metrics_in(query: str) -> set[str]:
    """Names of the metrics in a query; what is none of the words that we use is taken for one."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|ignoring) \([^)]*\)|offset \w+", " ", query)
    return set(re.findall(r"[a-z_]\w*", bare)) - WORDS - FUNCTIONS


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[str]:
    """Address of the pages of a scheduler, whose job has trained something and is paused."""
    async with scheduler() as served, mastered(tmp_path, served.address), worker(served.address):
        space, optimizer = {"x": Real(0, 1)}, Random(trials=100_000)
        client = Client(served.address, asynchronous=True)
        handle = await client.submit(job_of(space=space, optimizer=optimizer, isolation="thread"))
        async with asyncio.timeout(60):
            while (await handle.state()).best is None:
                await asyncio.sleep(0.05)
            await handle.pause()
            while (await handle.state()).state != "paused":
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{served.http_server.port}"


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


async def test_rules_panels_and_the_guide_name_what_the_scheduler_exports(tmp_path: Path) -> None:
    async with serving(tmp_path) as pages:
        families = list(text_string_to_metric_families(await asyncio.to_thread(get, f"{pages}/metrics")))
    labels: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, {"instance", "job"}).update(
            "exported_job" if name == "job" else name for name in sample.labels
        )
    for place, query in queries().items():
        assert metrics_in(query) <= labels.keys() | OF_PROMETHEUS, place
        for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) <= labels[name], place
    table = re.findall(r"^\| (`dask_swarm_.*?) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    written = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert written == {name for name in labels if name.startswith("dask_swarm_")}


def test_each_rule_says_what_happened_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["alert"].startswith("Swarm")
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}
    listed = re.findall(r"^\| `(Swarm\w+)` \|.*\| (\w+) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(listed) == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}


def test_the_board_has_panels_of_their_own_that_lie_beside_each_other() -> None:
    numbers = [panel["id"] for panel in panels()]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_the_board_asks_the_prometheus_that_its_reader_chooses() -> None:
    by_name = {variable["name"]: variable for variable in board()["templating"]["list"]}
    assert (by_name["datasource"]["type"], by_name["datasource"]["query"]) == ("datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asking = [panel for panel in panels() if panel["type"] != "row"]
    asked = [*asking, *(target for panel in asking for target in panel["targets"]), by_name["instance"], by_name["job"]]
    assert all(each["datasource"] == chosen for each in asked)
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(asking)))
    assert used - {"__rate_interval"} == by_name.keys()


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; in Debian it is in the package prometheus")
    return found


def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "rules", RULES], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and f"{len(rules())} rules found" in done.stdout, done.stdout + done.stderr


def series(**values: str) -> list[dict[str, str]]:
    """Minutes of a scheduler that is well but for what is given; names as Prometheus has them, without dask_."""
    well = {
        "up": "1x480",
        "swarm_healthy": "1x480",
        "swarm_store_answers": "1x480",
        "swarm_master_term": "1x480",
        'swarm_jobs state="active"': "1x480",
        'swarm_job_active exported_job="mine"': "1x480",
        'swarm_job_running exported_job="mine"': "4x480",
        'swarm_job_troubled exported_job="mine"': "0x480",
        'swarm_slots resource="GPU",state="free"': "0x480",
        'swarm_evaluations_total source="trained"': "0+4x480",
        'swarm_trials_total status="ok"': "0+4x480",
        'swarm_trials_total status="failed"': "0+0x480",
        'scheduler_workers state="idle"': "0x480",
        'scheduler_workers state="saturated"': "4x480",
    }
    found = []
    for name, said in (well | values).items():
        metric, _, labels = name.partition(" ")
        prefix = "" if metric == "up" else "dask_"
        more = f",{labels}" if labels else ""
        found.append({"series": f'{prefix}{metric}{{job="swarm",instance="here:8787"{more}}}', "values": said})
    return found


RUNNING, ACTIVE = 'swarm_job_running exported_job="mine"', 'swarm_job_active exported_job="mine"'
FAILED, OK = 'swarm_trials_total status="failed"', 'swarm_trials_total status="ok"'
CASES: dict[str, tuple[dict[str, str], str, set[str]]] = {
    "all is well": ({}, "8h", set()),
    "no master": ({"swarm_healthy": "1x9 0x60", "swarm_store_answers": "1x9 stale"}, "12m", {"SwarmMasterGone"}),
    "no store": ({"swarm_healthy": "1x9 0x60", "swarm_store_answers": "1x9 0x60"}, "12m", {"SwarmStoreAway"}),
    "no scheduler": (
        {
            "up": "1x9 0x60",
            "swarm_healthy": "1x9 stale",
            "swarm_store_answers": "1x9 stale",
        },
        "14m",
        {"SwarmSchedulerGone"},
    ),
    "a busy master": ({"swarm_master_term": "1+1x60"}, "30m", {"SwarmMasterStartsAgainAndAgain"}),
    "trouble": ({'swarm_job_troubled exported_job="mine"': "1x60"}, "6m", {"SwarmJobTroubled"}),
    "no slots": ({RUNNING: "0x60"}, "12m", {"SwarmJobWithoutSlots"}),
    "paused": ({RUNNING: "0x60", ACTIVE: "0x60", 'swarm_jobs state="active"': "0x60"}, "50m", set()),
    "a pause between two generations": ({RUNNING: "4 4 0 0 4 4 0 0 4 4 4 4 4"}, "12m", set()),
    "idle slots": ({'swarm_slots resource="GPU",state="free"': "2x60"}, "20m", {"SwarmSlotsIdle"}),
    "failures": ({FAILED: "0+4x480", OK: "0+1x480"}, "20m", {"SwarmTrialsFail"}),
    "few failures": ({FAILED: "0+1x480", OK: "0+4x480"}, "20m", set()),
    "trainings that hang": ({'swarm_evaluations_total source="trained"': "9x480"}, "7h", {"SwarmNoTrainingEnds"}),
    "a worker lost": ({'scheduler_workers state="saturated"': "4x20 3x40"}, "29m", {"SwarmWorkersLost"}),
    "a worker that came back": ({'scheduler_workers state="saturated"': "4x20 3 3 4x40"}, "29m", set()),
}


def test_the_cases_cover_all_rules() -> None:
    assert set().union(*(expected for _, _, expected in CASES.values())) == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("case", CASES)
def test_an_alert_is_raised_for_its_fault_and_no_other(case: str, tmp_path: Path) -> None:
    values, when, expected = CASES[case]
    query = "count by (alertname) (ALERTS{alertstate='firing'})"
    firing = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series(**values),
                "promql_expr_test": [{"expr": query, "eval_time": when, "exp_samples": firing}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    done = subprocess.run(
        [tool("promtool"), "test", "rules", tmp_path / "test.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def prometheus(folder: Path, pages: str) -> Iterator[str]:
    """Address of a Prometheus that reads these pages, as the guide says, and our rules."""
    found = re.search(r"```yaml\n(scrape_configs:.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    config = yaml.safe_load(found[1].replace("HOST:8787", pages.removeprefix("http://")))
    config |= {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(RULES)]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "data"}
    options |= {"web.listen-address": address, "log.level": "error"}
    command = [tool("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    process = subprocess.Popen(command, cwd=folder)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


async def asked(address: str, query: str) -> list[Any]:
    """What Prometheus answers, asked until it runs."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    while True:
        try:
            answer = json.loads(await asyncio.to_thread(get, url))
        except urllib.error.HTTPError as error:
            if error.code != 503:  # it is starting
                raise AssertionError(f"{query}: {error.read().decode()}") from None
        except OSError:
            pass
        else:
            return list(answer["data"]["result"])
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_real_prometheus_answers_every_panel(tmp_path: Path) -> None:
    tool("prometheus")
    filled = {"instance": ".*", "job": ".*", "__rate_interval": "1m"}
    async with serving(tmp_path) as pages, asyncio.timeout(90):
        with prometheus(tmp_path, pages) as address:
            while not await asked(address, "rate(dask_swarm_trials_total[1m])"):  # it has scraped twice
                await asyncio.sleep(0.1)
            empty = set()
            for place, query in queries().items():
                if not await asked(address, Template(query).safe_substitute(filled)):
                    empty.add(place)
    assert empty == {rule["alert"] for rule in rules()} | {"Jobs in trouble A"}
