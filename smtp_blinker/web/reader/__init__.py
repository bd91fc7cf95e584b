"""Everything that looks into a message. It runs in processes of its own, which `..child` starts.

The process that receives mail sends them requests and passes their answers on. Nothing here
imports anything but the standard library, its neighbours and `smtp_blinker.trace`, so that these
processes start fast and stay small.
"""
