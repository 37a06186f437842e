"""The documentation: pages, and the code that draws pictures and fills tables for them."""
