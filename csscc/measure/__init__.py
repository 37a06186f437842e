"""What a network is and does: inspect, compare, evaluate, verify, diagnose."""
