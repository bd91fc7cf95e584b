#!/usr/bin/env python
"""Runs the program `smtp-blinker` from a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from smtp_blinker.serve import main

main()
