"""What a Docker engine says of its containers: read by GET requests alone, kept as one picture.

engine  ─answers, events─►  containers  ─Picture─►  ports, labels
 (I/O)                        (pure)                    (pure)
"""
