"""Spiking networks as graphs: their operators, typed views of them, and the rules they obey."""
