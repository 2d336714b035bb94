#!/usr/bin/env bash
# Prints the path of a Python >= 3.12 that can make a virtual environment, or one line saying there is none.
# Looks at $PYTHON, then on PATH, then in pyenv's and uv's folders.
set -u

candidates() {
  [ -n "${PYTHON:-}" ] && echo "$PYTHON"
  for name in python3.13 python3.12 python3.14 python3 python; do
    type -ap "$name"
  done
  for root in "${PYENV_ROOT:-$HOME/.pyenv}/versions" "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"; do
    for version in 3.13 3.12 3.14; do
      ls -d "$root"/{,cpython-}"$version"*/bin/python3 2>/dev/null
    done
  done
}

# A name that exists may still not run (pyenv's shims fail unless their version is selected), so each is tried.
usable() {
  "$1" -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 12) or sys.version_info >= (3, 15))' \
    >/dev/null 2>&1
}

while read -r candidate; do
  if usable "$candidate"; then
    "$candidate" -c 'import sys; print(sys.executable)'
    exit 0
  fi
done < <(candidates)

echo "No Python 3.12 or newer with the venv module was found: install one, or say where it is: make PYTHON=/path/to/python3" >&2
exit 1
