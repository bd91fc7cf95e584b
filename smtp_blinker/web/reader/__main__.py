"""The start of a process of the page: ``python -I -S .../reader ROLE ARGUMENT…``.

It makes packages of the parent folders without running their `__init__`, which would load gevent
and Flask. So names have the same meaning here as in the process that receives mail.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys


def load_as_package(name: str, folder: str) -> None:
    """Have *folder* be the package *name*, from which modules can be imported."""
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [folder]
    sys.modules[name] = importlib.util.module_from_spec(spec)


if __name__ == "__main__":
    reader = os.path.dirname(os.path.abspath(__file__))
    web = os.path.dirname(reader)
    sys.path.remove(reader)  # or its modules could stand before the library's
    load_as_package("smtp_blinker", os.path.dirname(web))
    load_as_package("smtp_blinker.web", web)
    load_as_package("smtp_blinker.web.reader", reader)
    importlib.import_module("smtp_blinker.web.reader.worker").main(*sys.argv[1:])
