"""The modules of benchmarks/fleet.py."""
