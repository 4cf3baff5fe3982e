"""The policy: loading, adapters, packing, attention, log-probabilities, sharding, offload, memory budget."""
