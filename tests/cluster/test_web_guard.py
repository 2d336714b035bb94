"""Pages of other sites reach neither the dashboard nor Dask's other HTTP routes; tunnels and proxies do."""

import base64
import http.client
import os
import urllib.parse
from collections.abc import Iterator
from typing import Any

import dask
import pytest

from pipeline.cluster.web_guard import allowed_hosts, refusal
from pipeline.config.job import Cluster
from pipeline.run.connect import connect

EVIL = "http://evil.example"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8787", None),  # curl, Prometheus
        ("localhost:8787", "http://localhost:8787"),
        ("localhost:9999", "http://localhost:9999"),  # an SSH tunnel from another port
        ("127.0.0.1:9999", "http://127.0.0.1:9999"),
        ("[::1]:9999", "http://[::1]:9999"),
        ("127.0.0.1:8787", "http://localhost:8888"),  # a proxy on this machine that says where it connects to
        ("localhost:8888", "http://localhost:8888"),  # jupyter-server-proxy, which passes both on as they came
        ("10.0.0.5:8888", "http://10.0.0.5:8888"),
        ("HUB.example", "https://hub.example"),  # allowed by its name
        ("127.0.0.1:8787", "https://hub.example"),
    ],
)
def test_who_is_let_through(host: str, origin: str | None) -> None:
    assert refusal(host, origin, ("hub.example",)) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8787", EVIL),
        ("127.0.0.1:8787", "null"),
        ("127.0.0.1:8787", "http://203.0.113.5"),
        ("127.0.0.1:8787", "http://127.0.0.1.evil.example"),
        ("127.0.0.1:8787", "http://localhost@evil.example"),
        ("127.0.0.1:8787", ""),
        ("evil.example:8787", "http://evil.example:8787"),  # its own name, which now means 127.0.0.1
        ("evil.example", None),
        ("localhost.evil.example", None),
        ("hub.example.evil.example", None),
        ("localhost,evil.example", None),
        ("", None),
    ],
)
def test_who_is_refused(host: str, origin: str | None) -> None:
    assert "cluster.dashboard_hosts" in str(refusal(host, origin, ("hub.example",)))
    assert refusal(host, origin, ("*",)) is None


def test_names_of_the_users_configuration_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed_hosts(()) == ()
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", "https://one.example/hub/")
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_HUB_URL", "https://[broken")  # one that is no URL hides none of the others
    link, origins = "https://Two.example:443/user/{USER}/proxy/{port}/status", ["three.example:80", "four.example"]
    key = "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin"
    with dask.config.set({"distributed.dashboard.link": link, key: origins}):
        assert {*allowed_hosts(["five.example"])} == {
            f"{name}.example" for name in ("one", "two", "three", "four", "five")
        }


@pytest.fixture(scope="module")
def addresses() -> Iterator[list[str]]:
    """host:port of the web servers of a scheduler and of a worker of ours."""
    section = Cluster(device="cpu", workers=1, threads=1, memory="1GiB", dashboard_hosts=["hub.example"])
    with connect(section) as client:
        worker = next(iter(client.scheduler_info()["workers"].values()))
        port = worker["services"]["dashboard"]
        yield [urllib.parse.urlsplit(client.dashboard_link).netloc, f"127.0.0.1:{port}"]


def ask(address: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, "" if answer.status == 101 else answer.read().decode()
    finally:
        connection.close()


def test_routes_of_dask(addresses: list[str]) -> None:
    for address, paths in zip(
        addresses, (["/json/identity.json", "/info/main/workers.html", "/health"], ["/health"]), strict=True
    ):
        for path in paths:
            assert ask(address, path)[0] == 200
            for host in ("localhost:9999", "hub.example"):
                assert ask(address, path, Host=host)[0] == 200
            for headers in ({"Host": "evil.example"}, {"Origin": EVIL}, {"Host": "evil.example", "Origin": EVIL}):
                status, text = ask(address, path, **headers)
                assert status == 403
                assert "cluster.dashboard_hosts" in text
                assert text.count("\n") == 1


def test_pages_and_their_websockets(addresses: list[str]) -> None:
    """The first visit loads the dashboard: not for a foreign one; and a proxy's paths and headers do not matter."""
    address = addresses[0]
    assert ask(address, "/team", Host="evil.example")[0] == 403
    assert ask(address, "/training")[0] in (200, 302)
    for host in (address, "localhost:9999", "hub.example"):
        session = token(ask(address, "/team", Host=host, **{"X-Forwarded-Context": "/user/x/proxy/8787"})[1])
        assert socket(address, session, Host=host, Origin=f"http://{host}")[0] == 101
        for foreign in (EVIL, "null", "http://hub.example.evil.example"):
            assert socket(address, session, Host=host, Origin=foreign)[0] == 403
    assert socket(address, session, Host="evil.example", Origin=EVIL)[0] == 403


def token(page: str) -> str:
    """The session that a page of Bokeh opens."""
    start = page.index('"token":"') + len('"token":"')
    return page[start : page.index('"', start)]


def socket(address: str, session: str, **headers: str) -> tuple[int, Any]:
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": f"bokeh, {session}",
    }  # fmt: skip
    return ask(address, "/team/ws", **upgrade, **headers)
