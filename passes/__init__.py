"""Graph transformations, one a file; `csscc.pipeline` lists them in order."""
