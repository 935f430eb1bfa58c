"""DockStack: registers healthy services in a registry and routes to them through a local HAProxy."""

__version__ = "0.1.0"
