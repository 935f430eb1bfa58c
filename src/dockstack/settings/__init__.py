"""The nerve and synapse files as frozen models: SmartStack's schema, its defaults, and what DockStack adds to it."""
