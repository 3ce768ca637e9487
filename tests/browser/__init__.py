"""The dashboard in Chromium: `make test-browser`."""
