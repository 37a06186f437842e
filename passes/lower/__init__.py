"""From a spiking network, a node a layer, to what is written and run."""
