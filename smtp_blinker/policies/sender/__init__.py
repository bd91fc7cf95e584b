"""Who sent a message: SPF, DKIM, ARC and DMARC, for `SenderAuthentication`."""
