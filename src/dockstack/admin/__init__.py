"""How the outside asks a running daemon how it is."""
