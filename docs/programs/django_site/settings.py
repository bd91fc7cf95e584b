"""The least that a project needs."""

SECRET_KEY = "for trying only"
INSTALLED_APPS = ["inbox"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
