"""What spikes mean and what a neuron does with them: numbers and rules, no graph and no runtime."""
