"""Self-hosted WhatsApp and SMS campaigns, with numbers that add up."""

__version__ = "0.1.0"
