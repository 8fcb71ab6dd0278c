"""The time, as acquisitions and caches see it.

``current`` is looked up whenever the time is wanted, and the functions in it too: gevent and freezegun put theirs into
``time`` after the import, and tests put a clock of their own here, so that nobody waits between retries.
"""

from __future__ import annotations

import time

current = time
