"""Asyncio pieces that know nothing of services."""
