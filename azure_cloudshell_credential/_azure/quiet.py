"""What azure-identity logs as warnings of the credentials inside ours.

Our error says it in one paragraph, so it goes to our log instead, at DEBUG. Whoever asks azure-identity in another way,
at the same time too, keeps its warnings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .._endpoint.text import quoted

_LOGGER = logging.getLogger(__name__)

_MAX_SAID = 4000
"""Characters: a ``DefaultAzureCredential`` says what each of its ten credentials says."""

_asking: ContextVar[bool] = ContextVar("azure_cloudshell_credential_asking", default=False)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or not _asking.get():
            return True
        _LOGGER.debug("%s: %s", record.name, quoted(record.getMessage(), _MAX_SAID))
        return False


_QUIET = _Quiet()


@contextmanager
def quietly() -> Iterator[None]:
    """Ask a credential of azure-identity's."""
    # A logger's filter sees what is logged to it, and nothing of its children.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("azure.identity."):
            # One that is there already is not added again.
            logging.getLogger(name).addFilter(_QUIET)
    before = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(before)
