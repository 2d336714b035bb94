#!/usr/bin/env bash
# Writes requirements-cuda13.lock, requirements.lock and requirements-docs.lock: pinned, with hashes for every Python and platform, and no
# address of a registry. The CUDA lock comes first: dask-cuda is what holds Dask and Bokeh back, and the other lock
# follows it, so that both hold the same versions of what they share.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$(tools/find_python.sh)" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet uv

compile() {
  env -u PIP_FIND_LINKS "$tools/bin/uv" pip compile --quiet --universal --python-version 3.12 \
    --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}

compile pyproject.toml --upgrade --extra dev --extra cuda13 --output-file requirements-cuda13.lock
compile pyproject.toml --upgrade --extra dev --constraint requirements-cuda13.lock --output-file requirements.lock
compile --group docs --upgrade --output-file requirements-docs.lock
if grep -nE 'https?://|^--(index|extra|find|trusted)' requirements*.lock; then
  echo "a lock names a registry" >&2
  exit 1
fi
