"""Names the machine's processor."""

import platform
import re
from pathlib import Path


def processor() -> str:
    """The processor's model, as the system reports it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor()
