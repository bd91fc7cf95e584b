from django.db import models


class Mail(models.Model):
    sender = models.CharField(max_length=320, blank=True)  # empty for the null reverse-path
    recipients = models.JSONField()
    content = models.BinaryField()
    received = models.DateTimeField(auto_now_add=True)
