"""One connection from accept to close: everything that blocks."""
