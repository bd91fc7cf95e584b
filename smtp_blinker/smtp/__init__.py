"""The protocol in the words of its RFCs: no I/O, no hook, no session."""
