"""The function that asks a model about each vehicle that was heard, and writes its answer into the vehicle's item."""
