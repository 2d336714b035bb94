"""What a command costs, over all its processes."""

import sys
from pathlib import Path

from benchmarks.measure import run

GRANDCHILD = """
import subprocess, sys, time
start = time.process_time()
while time.process_time() - start < 0.4:
    pass
"""

PARENT = f"""
import subprocess, sys, time
block = b"x" * 100_000_000
subprocess.run([sys.executable, "-c", {GRANDCHILD!r}], check=True)
print("done")
"""

ORPHAN = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}])
import time
time.sleep(0.2)
"""


def test_counts_memory_and_cpu_of_the_tree():
    cost = run([sys.executable, "-c", PARENT], cwd=Path.cwd())
    assert cost.stdout == "done\n"
    assert cost.exit_code == 0
    assert 0.3 < cost.cpu_seconds < 2.0  # half a second, and the interpreters of a busy machine
    assert 0.1e9 < cost.peak_pss_nbytes < 0.2e9
    assert cost.wall_seconds > 0.4
    assert cost.memory_samples >= 1  # as many as a busy machine leaves time for


def test_counts_the_cpu_of_orphans():
    assert run([sys.executable, "-c", ORPHAN], cwd=Path.cwd()).cpu_seconds > 0.4


def test_a_failure_is_reported():
    cost = run([sys.executable, "-c", "raise SystemExit('no luck')"], cwd=Path.cwd())
    assert cost.exit_code == 1
    assert cost.stderr.strip() == "no luck"
