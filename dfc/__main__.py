"""``python -m dfc`` is ``dfc``. Modules load inside of :func:`main`, so that Ctrl-C meanwhile shows no traceback."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on the process's arguments; returns the exit code, 130 where Ctrl-C ended it."""
    try:
        from dfc.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
