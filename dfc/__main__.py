"""``python -m dfc`` is ``dfc``."""

import sys

from dfc.cli import main

sys.exit(main())
