"""The watcher: watch → select → outputs."""
