"""Why slots are idle, in words."""

from __future__ import annotations

from typing import Any

from swarm.dashboard.board import Shown
from swarm.dashboard.cluster.cards import brief, cards_html
from swarm.dashboard.cluster.idle import idle_html

FREE = {"a:slot-0": "GPU", "a:slot-1": "GPU"}


def job(state: str, gpus: float = 1, **more: Any) -> Shown:
    told = {"state": state, "told": 3, "planned": 10, "running": 1, "most": None, "trouble": None, **more}
    return Shown("master", told, {"gpus_per_training": gpus})


def test_slots_that_are_idle_for_the_same_reason_have_one_line() -> None:
    said = idle_html(FREE, {}, {})
    assert said.count("<br>") == 1 and "a:slot-0, a:slot-1" in said and "swarm submit JOB.yaml" in said
    many = {f"a:slot-{n}": "GPU" for n in range(99)}
    assert "and 95 more" in idle_html(many, {}, {})
    assert idle_html({}, {}, {"x": job("active")}) == ""


def test_the_reason_is_that_of_the_jobs() -> None:
    said = {
        "swarm unpause one": {"one": job("paused"), "two": job("finished")},
        "start a master: swarm master": {"one": job("unattended"), "two": job("paused")},
        "one &lt;disk full&gt;": {"one": job("active", trouble="<disk full>")},
        "one may use 1 slot, and does": {"one": job("active", most=1)},
        "one is choosing what to try next": {"one": job("active", running=0)},
        "waits for its last 1 training": {"one": job("active", told=9)},
        "one waits for 2 trainings before": {"one": job("active", running=2), "two": job("paused")},
        "no job wants slots of the class GPU; one is trained on GPU-2": {"one": job("active", gpus=2)},
    }
    for what, jobs in said.items():
        assert what in idle_html(FREE, {}, jobs)


def test_a_slot_that_waits_for_its_gpu_says_so_itself() -> None:
    said = idle_html(FREE, {"a:slot-1": "somebody <else> has it"}, {})
    assert "<b>a:slot-1</b> waits for its GPU: somebody &lt;else&gt; has it" in said
    assert "<b>a:slot-0</b> idle" in said


def test_each_gpu_has_a_row_with_memory_and_load_and_what_is_not_told_is_said() -> None:
    whole = {"uuid": "GPU-1", "index": 0, "name": "H100 <b>", "total": 80 * 10**9, "used": 20 * 10**9, "load": 37}
    said = cards_html([("10.0.0.1", whole), ("10.0.0.2", {"index": 1, "load": None}), ("10.0.0.3", "no card")])
    assert said.count("<tr>") == 3 and "H100 &lt;b&gt;" in said
    assert "value='0.250'" in said and "20 GB of 80 GB" in said and "37 %" in said
    assert said.count("not told") == 2
    assert cards_html([]) == "", "slots of CPUs have no GPUs"
    assert "6 more GPUs" in cards_html([("a", whole)] * 70)


def test_slots_are_named_by_the_beginning_of_their_gpus_identifiers() -> None:
    one, other = "GPU-0a1b2c3d-0000-4000-8000-00000000000f", "MIG-9f8e7d6c-1111-4000-8000-0000000000ab"
    assert brief(f"vm:{one}+{other}") == "vm:GPU-0a1b2c3d+MIG-9f8e7d6c"
    assert brief("vm:slot-0-15844") == "vm:slot-0-15844"
