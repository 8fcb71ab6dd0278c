"""``python -m azure_cloudshell_credential``: the command ``azure-cloudshell``."""

from __future__ import annotations

import sys

from ._cli import main

sys.exit(main())
