"""Where a process of the page begins: ``python -I -S .../reader ROLE ARGUMENT…``.

It loads its own folder as a package, and neither gevent nor Flask with it.
"""

import importlib
import importlib.util
import os
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path.remove(folder)  # or its modules could stand before the library's
    spec = importlib.util.spec_from_file_location(
        "reader", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    sys.modules["reader"] = importlib.util.module_from_spec(spec)
    importlib.import_module("reader.worker").main(*sys.argv[1:])
