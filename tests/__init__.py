"""Mirrors src one to one; `contract`, `golden` and `e2e` run whole programs, `servers` are what they run against."""
