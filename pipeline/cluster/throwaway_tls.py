"""Makes TLS certificates for one local cluster: made as it starts, dropped as it closes.

`cluster.security = "auto"`: keeps other users of this machine away from the cluster, without files to look after.  All
processes share one self-signed certificate, which is also the only authority.  Its key is in the memory of the
cluster's processes, and in a file that only this user can read, with which `pipeline watch` connects to the scheduler.
"""

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from distributed.security import Security

from pipeline.errors import ClusterError

OPENSSL_SECONDS = 20.0
DAYS = "365"
LARGEST_NBYTES = 1 << 16  # of a file with certificate and key
_CONFIGURATION = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = dask-train-pipeline
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
subjectKeyIdentifier = hash
"""
_COMMAND = (
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config /dev/stdin -keyout /dev/stdout "
    f"-out /dev/stdout -days {DAYS}"
)


def make(program: str = "openssl") -> Security:
    """Makes a certificate for all processes of a cluster.  ClusterError if the command openssl does not make one."""
    command = shutil.which(program)
    if command is None:
        raise ClusterError(
            'cluster.security = "auto": the command openssl is not installed; install it, or give files of your own '
            "(SECURITY.md)"
        )
    try:
        done = subprocess.run(
            [command, *_COMMAND.split()], input=_CONFIGURATION, capture_output=True, text=True, timeout=OPENSSL_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f'cluster.security = "auto": {command} does not run: {error}') from None
    key, certificate = _block("PRIVATE KEY", done.stdout), _block("CERTIFICATE", done.stdout)
    if done.returncode or not key or not certificate:
        raise ClusterError(f'cluster.security = "auto": {command} made no certificate: {done.stderr.strip()[:200]}')
    return _security(certificate, key)


def _block(name: str, text: str) -> str:
    found = re.search(rf"-----BEGIN {name}-----\n[A-Za-z0-9+/=\n]+-----END {name}-----\n", text)
    return found[0] if found else ""


def _security(certificate: str, key: str) -> Security:
    """Returns the settings for every role; Dask accepts the content of PEM files as well as their names."""
    given = {f"tls_{role}_cert": certificate for role in ("client", "scheduler", "worker")}
    given |= {f"tls_{role}_key": key for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=certificate, **given)


def publish(address: str, security: Security) -> None:
    """Writes certificate and key for this user's other programs; if no file can be written, they cannot connect."""
    with contextlib.suppress(OSError):
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _only_ours(folder):
            return
        _remove_dead(folder)
        files = security.get_tls_config_for_role("client")
        text = {"pid": os.getpid(), "certificate": files["cert"], "key": files["key"]}
        handle, partial = tempfile.mkstemp(dir=folder)  # of mode 0600
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(text, file)
        os.replace(partial, _file(folder, address))


def withdraw(address: str) -> None:
    """Removes what `publish` wrote, if anything."""
    with contextlib.suppress(OSError):
        _file(_folder(), address).unlink(missing_ok=True)


def find(address: str) -> Security | None:
    """Returns what a local cluster of this user has published for its scheduler's address; None if nothing."""
    parts = urlsplit(address)
    if parts.scheme != "tls" or parts.hostname != "127.0.0.1":
        return None
    try:
        folder = _folder()
        path = _file(folder, address)
        if not (_only_ours(folder) and _only_ours(path)) or path.stat().st_size > LARGEST_NBYTES:
            return None
        value = json.loads(path.read_text(encoding="ascii"))
        return _security(str(value["certificate"]), str(value["key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def usable() -> bool:
    """Whether this machine has the command that makes certificates."""
    return shutil.which("openssl") is not None


def running() -> list[str]:
    """Returns addresses of the schedulers that have published something; removes those of killed programs."""
    with contextlib.suppress(OSError):
        folder = _folder()
        if _only_ours(folder):
            _remove_dead(folder)
            return sorted(f"tls://127.0.0.1:{path.stem}" for path in folder.glob("*.json"))
    return []


def _folder() -> Path:
    """Returns a folder of this user, which is removed with the session if the system provides such a place."""
    root = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "dask-train-pipeline" / "clusters"


def _file(folder: Path, address: str) -> Path:
    return folder / f"{urlsplit(address).port}.json"


def _only_ours(path: Path) -> bool:
    """Whether it belongs to this user and no other user may read or write it."""
    status = os.lstat(path)
    return status.st_uid == os.getuid() and not stat.S_ISLNK(status.st_mode) and not status.st_mode & 0o077


def _remove_dead(folder: Path) -> None:
    """Removes the files of clusters whose process was killed."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if not psutil.pid_exists(int(json.loads(path.read_text(encoding="ascii"))["pid"])):
                path.unlink()
