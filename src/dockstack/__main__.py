"""`python -m dockstack` is the command `dockstack`."""

from dockstack.cli import main

main()
