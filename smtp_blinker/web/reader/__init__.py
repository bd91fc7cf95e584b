"""Everything that parses messages. It runs in processes of its own, which `..child` starts.

The process that receives mail sends them requests and passes on their answers. The modules here
import only the standard library, each other and `smtp_blinker.trace`, so that these processes start
fast and stay small.
"""
