"""Certificates, made by the commands in SECURITY.md."""

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.config.job import Security

SECURITY = Path(__file__).resolve().parents[2] / "SECURITY.md"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Security:
    """The files of a cluster; `ca-key.pem` is in the same folder."""
    folder = tmp_path_factory.mktemp("tls")
    lines = next(block for block in re.findall(r"```sh\n(.*?)```", SECURITY.read_text(), re.S) if "openssl" in block)
    subprocess.run(["bash", "-euc", lines], cwd=folder, check=True, capture_output=True)
    names = {"ca_file": "ca.pem", "cert_file": "cert.pem", "key_file": "key.pem"}
    return Security(**{field: str(folder / name) for field, name in names.items()})
