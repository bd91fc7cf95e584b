"""What the program `smtp-blinker` does to its own process."""

from __future__ import annotations

import gc

from smtp_blinker.serve import process


def test_garbage_collection_passes_by_what_lives_until_the_end() -> None:
    before = gc.get_freeze_count()
    try:
        process.spare_the_collector()
        assert gc.get_freeze_count() > before + 10_000
        assert len(gc.get_objects()) < 10_000
    finally:
        gc.unfreeze()
