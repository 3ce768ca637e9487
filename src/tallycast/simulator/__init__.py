"""The simulator: 360dialog, Meta, Twilio and an SMSC to rehearse campaigns with, and a ledger of what handsets got.

It plays the providers' side of their protocols and shares nothing with tallycast's own but the shape of a reference:
what both would misunderstand alike could not be found.
"""
