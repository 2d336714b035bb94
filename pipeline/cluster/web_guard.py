"""Blocks requests from web pages of other sites to the web servers of Dask's processes.

These listen on loopback, where every page in a browser on this machine can reach them: by a WebSocket, which browsers
open across sites, or by a host name of the page's own site that is changed to resolve to 127.0.0.1 (DNS rebinding).  So
two headers are checked that no page can forge:

    Host     a name that no other site can point here: an address, localhost, this machine's name, an allowed name
    Origin   if present: the same as Host, a loopback name (tunnels and proxies that rewrite Host), an allowed name

The module is also a preload of the schedulers and workers of local clusters.
"""

import contextlib
import ipaddress
import os
import socket
import urllib.parse
from collections.abc import Collection
from typing import Any

import dask.config
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

HOSTS = "pipeline.dashboard-hosts"  # configuration key: names that are allowed; "*": all
SETTING = "cluster.dashboard_hosts"
_ADDRESSES = ("JUPYTERHUB_PUBLIC_URL", "JUPYTERHUB_PUBLIC_HUB_URL", "JUPYTERHUB_HOST")  # whose proxies pass Host on


def allowed_hosts(given: Collection[str]) -> tuple[str, ...]:
    """Returns the given names, and those that the user's configuration of Dask and JupyterHub has for the dashboard."""
    origins = dask.config.get("distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin", [])
    links = [str(dask.config.get("distributed.dashboard.link", "")), *(os.environ.get(name, "") for name in _ADDRESSES)]
    found = [origin.rpartition(":")[0] or origin for origin in origins if "*" not in origin]  # Dask's default is "*"
    for link in links:
        with contextlib.suppress(ValueError):  # no URL: it names no host; a refusal says how to allow one
            found.append(urllib.parse.urlsplit(link).netloc.rpartition("@")[2])
    names = (_bare(name) for name in (*given, *found) if "{" not in name)
    return tuple(dict.fromkeys(name for name in names if name))


def refusal(host: str, origin: str | None, allowed: Collection[str]) -> str | None:
    """Returns why a request with these headers is refused, in a line; None if it is allowed.

    >>> refusal("localhost:9000", "http://localhost:9000", ()), refusal("10.0.0.5", None, ())
    (None, None)
    >>> refusal("127.0.0.1:8787", "http://evil.example", ())
    "a page of http://evil.example may not read this: if it is the dashboard's own, add evil.example to cluster.dashboard_hosts"
    """
    if "*" in allowed:
        return None
    name = _bare(host)
    if not (_is_address(name) or _is_local(name) or name == socket.gethostname().lower() or name in allowed):
        return f"the host name {name[:200]} is not allowed: if it is yours, add it to {SETTING}"
    if origin is None or ("://" in origin and origin.partition("://")[2].lower() == host.lower()):
        return None
    name = _bare(origin.partition("://")[2])
    if _is_local(name) or name in allowed:
        return None
    return f"a page of {origin[:200]} may not read this: if it is the dashboard's own, add {name[:200] or 'it'} to {SETTING}"


def _install(application: Application, allowed: Collection[str]) -> None:
    """Makes the application of a web server, and those added to it, answer only what `refusal` allows."""
    find = application.find_handler

    def find_handler(request: HTTPServerRequest, **options: Any) -> Any:
        why = refusal(request.host, request.headers.get("Origin"), allowed)
        if why is not None:
            return application.get_handler_delegate(request, _Refused, {"why": why})
        return find(request, **options)

    application.find_handler = find_handler  # type: ignore[method-assign]  # Tornado has no hook before it


def dask_setup(server: Any) -> None:
    """Called by Dask in a scheduler or worker that is started with this module as a preload."""
    _install(server.http_application, dask.config.get(HOSTS, ()))


class _Refused(RequestHandler):
    """Answers 403 to every method."""

    def initialize(self, why: str) -> None:
        self.why = why

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"403: {self.why}\n")


def _bare(host: str) -> str:
    """Returns the name in host:port, in lower case and without brackets or the last dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and ":" not in name else host).rstrip(".")


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _is_local(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")
