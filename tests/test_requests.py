"""What comes from clients is checked before anything else looks at it."""

from __future__ import annotations

import json

import pytest

from swarm.errors import InvalidInput
from swarm.service.requests import Events, Steer, Submit, parse


def test_a_submission_comes_as_json_and_a_pickle() -> None:
    data = json.dumps({"spec": {"name": "a"}, "priority": 2.0, "environment": ["python==3.11.*"]})
    request = parse("submit", data, b"code")
    assert isinstance(request, Submit)
    assert (request.spec, request.problem, request.priority) == ({"name": "a"}, b"code", 2.0)


def test_other_requests_name_a_job() -> None:
    assert parse("events", '{"name": "a", "after": 5}', b"") == Events(method="events", name="a", after=5)
    assert parse("share", '{"name": "a", "most": 0}', b"") == Steer(method="share", name="a", most=0)


@pytest.mark.parametrize(
    ("method", "data", "blob", "complaint"),
    [
        ("destroy", "{}", b"", "'destroy'"),
        ("submit", "not json", b"", "is not JSON"),
        ("submit", "[1]", b"", "a request is a mapping, not list"),
        ("submit", '{"spec": {}}', b"", "problem: Field required"),
        ("submit", '{"spec": {}, "priority": NaN}', b"x", "priority"),
        ("submit", '{"spec": {}, "priority": 1e300}', b"x", "priority"),
        ("submit", '{"spec": {}, "most": 0}', b"x", "most"),
        ("submit", '{"spec": {}, "environment": ["-r file"]}', b"x", "environment"),
        ("submit", '{"spec": {}, "secret": 1}', b"x", "secret: Extra inputs"),
        ("cancel", '{"name": ""}', b"", "name"),
        ("cancel", '{"name": 7}', b"", "name"),
        ("events", '{"name": "a", "after": -1}', b"", "after"),
        ("events", '{"name": "a"}', b"stray", "problem: Extra inputs"),
    ],
)
def test_what_is_no_request_is_refused_in_one_line(method: str, data: str, blob: bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint) as caught:
        parse(method, data, blob)
    assert "\n" not in str(caught.value)
