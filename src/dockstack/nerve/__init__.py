"""The registrar: check → judge → report, for each service."""
