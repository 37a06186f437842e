"""From an ANN to a spiking network, a node a layer."""
