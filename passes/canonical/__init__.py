"""From the graph of any exporter to one of few spellings."""
