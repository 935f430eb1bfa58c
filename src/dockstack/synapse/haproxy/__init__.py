"""The HAProxy output: place → render → plan → apply."""
