"""How fast csscc compiles and its networks run, measured against their dense limit and against peers."""
