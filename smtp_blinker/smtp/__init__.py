"""The protocol in the terms of its RFCs, without I/O, hooks and sessions."""
