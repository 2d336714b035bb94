"""Configures TLS for Dask's connections from the job's files, checked before anything is connected or started.

Dask asks both sides for a certificate of the given authority and ignores the names in it: every process with such a
certificate and its key can take part.  So use an authority that serves this cluster only.
"""

import os
import ssl

from distributed.security import Security

from pipeline.config.job import Security as Files
from pipeline.errors import ClusterError


def for_client(files: Files) -> Security:
    """Returns TLS for a client of a running scheduler.  ClusterError if a file cannot be used."""
    return _security(files, ("client",))


def for_all(files: Files) -> Security:
    """Returns TLS for scheduler, workers, nannies and client of a local cluster, all with the same certificate.

    ClusterError if a file cannot be used, or if the authority does not accept a certificate for both ends of a
    connection: processes that refuse each other would retry for ever.
    """
    security = _security(files, ("client", "scheduler", "worker"))
    try:
        _shake_hands(security)
    except ssl.SSLError as error:
        raise _refusal(files, _words(error)) from None
    return security


def _security(files: Files, roles: tuple[str, ...]) -> Security:
    ca, cert, key = (
        os.path.abspath(os.path.expanduser(path)) for path in (files.ca_file, files.cert_file, files.key_file)
    )
    for name, path in (("ca_file", ca), ("cert_file", cert), ("key_file", key)):
        if "\n" in path:  # Dask would take it for the file's content; it may be a key, so it is not shown
            raise ClusterError(f"cluster.security.{name}: give the path of a file, not its content")
        try:
            with open(path, "rb"):
                pass
        except (OSError, ValueError) as error:  # ValueError: not a valid path
            raise ClusterError(f"cluster.security.{name} = {path}: {getattr(error, 'strerror', error)}") from None
    _readable(files, ca, cert, key)
    given = {f"tls_{role}_cert": cert for role in roles} | {f"tls_{role}_key": key for role in roles}
    return Security(require_encryption=True, tls_ca_file=ca, **given)


def _readable(files: Files, ca: str, cert: str, key: str) -> None:
    """Raises ClusterError if OpenSSL cannot use a file; for a key with a pass phrase it would prompt on the terminal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asked: list[str] = []

    def no_phrase() -> str:
        asked.append(key)
        return "x"

    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError:
        raise ClusterError(f"cluster.security.ca_file = {files.ca_file}: holds no certificate (PEM)") from None
    try:
        context.load_cert_chain(cert, key, password=no_phrase)
    except ssl.SSLError as error:
        if asked:
            raise ClusterError(
                f"cluster.security.key_file = {files.key_file}: has a pass phrase; give a key without one"
            ) from None
        raise _refusal(files, _words(error)) from None


def _shake_hands(security: Security) -> None:
    """Does a TLS handshake of a worker with a scheduler, in memory.  ssl.SSLError if one refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = security.get_connection_args("worker")["ssl_context"].wrap_bio(to_client, to_server)
    server = security.get_listen_args("scheduler")["ssl_context"].wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)


def _words(error: ssl.SSLError) -> str:
    """Returns OpenSSL's message without its place in C."""
    reason = str(getattr(error, "verify_message", None) or error.reason or error)
    if "PEM" in reason:
        return "not a certificate and its key (PEM)"
    return reason.replace("_", " ").lower() if reason.isupper() else reason


def _refusal(files: Files, reason: str) -> ClusterError:
    return ClusterError(
        f"cluster.security: {reason} (ca_file {files.ca_file}, cert_file {files.cert_file}, key_file {files.key_file})"
    )
