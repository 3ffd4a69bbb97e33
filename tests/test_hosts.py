"""By which names, and for pages of which sites, the dashboard may be opened: on a real scheduler, over HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import dask
import pytest
from distributed import Scheduler
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

import swarm.scheduler  # noqa: F401 - its settings must be there before a scheduler is made

PAGES = ("/swarm/health", "/swarm", "/status", "/info/main/workers.html", "/metrics", "/json/counts.json", "/nothing")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    options = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0", "preload": ["swarm.scheduler"]}
    with dask.config.set({"swarm.dashboard-hosts": ["swarm.example.org", "other.example.org:8443"]}):
        async with Scheduler(**options) as scheduler:
            yield scheduler.http_server.port


async def answer(port: int, path: str, **headers: str) -> int:
    request = HTTPRequest(f"http://127.0.0.1:{port}{path}", headers={key.title(): v for key, v in headers.items()})
    return int((await AsyncHTTPClient().fetch(request, raise_error=False)).code)


@pytest.mark.parametrize("path", PAGES)
async def test_a_name_of_another_site_that_leads_here_is_refused(path: str, port: int) -> None:
    assert await answer(port, path, host=f"evil.example:{port}") == 403
    taken = {"/nothing": 404, "/swarm/health": 503}.get(path, 200)  # there is no such page; there is no master
    assert await answer(port, path, host=f"localhost:{port}") == taken


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "192.0.2.7", "SWARM.example.org", "own name"])
async def test_own_names_and_those_of_the_setting_are_taken(host: str, port: int) -> None:
    name = socket.gethostname() if host == "own name" else host
    assert await answer(port, "/health", host=f"{name}:{port}") == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8787@localhost:x", "[::1"],
)
async def test_what_only_looks_like_an_own_name_is_refused(host: str, port: int) -> None:
    assert await answer(port, "/health", host=host) in (400, 403)


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("localhost:{}", "http://localhost:{}", 200),
        ("localhost:{}", "http://localhost:9", 403),  # somebody else's server on this machine
        ("localhost:{}", "https://evil.example", 403),
        ("localhost:{}", "null", 403),
        ("localhost:{}", "https://swarm.example.org", 200),
        ("localhost:{}", "https://other.example.org:8443", 200),
        ("localhost:{}", "https://other.example.org", 403),
    ],
)
async def test_pages_of_other_sites_may_not_read_it(host: str, origin: str, code: int, port: int) -> None:
    assert await answer(port, "/health", host=host.format(port), origin=origin.format(port)) == code


async def test_a_websocket_from_another_site_is_refused(port: int) -> None:
    address = f"ws://127.0.0.1:{port}/swarm/ws"
    with pytest.raises(HTTPClientError, match="403"):
        await websocket_connect(HTTPRequest(address, headers={"Origin": "https://evil.example"}))
    with pytest.raises(HTTPClientError, match="403"):
        await websocket_connect(HTTPRequest(address, headers={"Host": f"evil.example:{port}"}))
    line = await websocket_connect(
        HTTPRequest(f"ws://127.0.0.1:{port}/eventstream", headers={"Origin": f"http://127.0.0.1:{port}"})
    )
    line.close()


async def test_a_refusal_says_which_setting_helps(port: int) -> None:
    request = HTTPRequest(f"http://127.0.0.1:{port}/swarm", headers={"Host": "evil.example"})
    found = await AsyncHTTPClient().fetch(request, raise_error=False)
    assert b"swarm.dashboard-hosts" in found.body
