"""Files and data: sample inputs, models whose weights do not fit into one message, safe writing."""
