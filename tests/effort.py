"""How many random cases a test takes: all of them by hand (DFC_TEST_FULL=1), a share in CI."""

from __future__ import annotations

import os

FULL = os.environ.get("DFC_TEST_FULL") == "1"


def share(full: int, part: int = 5) -> int:
    """All cases, or one in ``part`` of them."""
    return full if FULL else max(1, full // part)
