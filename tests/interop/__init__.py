"""Real clients and proxies against a running server."""
