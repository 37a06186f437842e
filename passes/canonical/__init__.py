"""From the graph of any exporter to few kinds of nodes."""
