"""The second output: a JSON file for each service, for programs that choose a server themselves."""
