"""Files that hold secrets, which nobody but their user may read, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ._errors import CommandError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write(path: Path, text: str, *, replaces: bool = True) -> bool:
    """Write a file anew, in one step: who has the old one open sees nothing of it, and there is never half of one.

    :param replaces: replace a file that is there.
    :return: whether it has been written.
    :raises CommandError: if it cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                # A umask may have taken even the user's own rights.
                new.chmod(0o600)
                file.write(text)
            return _put(new, path, replaces=replaces)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror or error}.") from None


def _put(new: Path, path: Path, *, replaces: bool) -> bool:
    if not replaces and not path.is_symlink():
        try:
            os.link(new, path)
            return True
        except FileExistsError:
            return False
        except OSError:
            # A file system without links.
            pass
    new.replace(path)
    return True


def read(path: Path, make: Callable[[], str]) -> str:
    """What is in a file. If there is none, it is made.

    :param make: makes its text.
    :raises CommandError: if it cannot be read or made, or if others may read or change it.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            status = os.fstat(file.fileno())
            if os.name != "nt" and (status.st_mode & _OTHERS or status.st_uid != os.geteuid()):
                said = f"{path} is not yours alone, and its secrets may be known: delete it, and new ones are made."
                raise CommandError(said)
            return file.read()
    except FileNotFoundError:
        text = make()
        # Another process may have made it meanwhile, whose lines hold its secrets.
        return text if write(path, text, replaces=False) else read(path, make)
    except OSError as error:
        raise CommandError(f"Cannot read {path}: {error.strerror or error}.") from None
