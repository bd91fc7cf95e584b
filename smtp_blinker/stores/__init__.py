"""Where mail goes: ready-made `on_data` hooks."""

from .maildir import MaildirStore

__all__ = ["MaildirStore"]
