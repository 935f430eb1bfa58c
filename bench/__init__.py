"""What the README's numbers come from: each module prints a table and writes its figures to bench/results/."""
