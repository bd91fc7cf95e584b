"""One connection from accept to close: all code that blocks."""
