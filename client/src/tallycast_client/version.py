"""The one place of the version that goes into User-Agent; the wheel has the same."""

__version__ = "0.1.0"
