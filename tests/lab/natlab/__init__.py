"""A small Internet in network namespaces, and the calls that are placed across it."""
