"""``python -m prunekit``."""

import sys

from .cli.main import main

sys.exit(main())
