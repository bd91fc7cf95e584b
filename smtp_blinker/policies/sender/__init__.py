"""Sender authentication with SPF, DKIM, ARC and DMARC, for `SenderAuthentication`."""
