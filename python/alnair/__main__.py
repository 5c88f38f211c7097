"""``python -m alnair``."""

import sys

from ._cli import main

sys.exit(main())
