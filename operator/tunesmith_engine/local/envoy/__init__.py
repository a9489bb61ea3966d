"""Traffic on a laptop: one Envoy in front of the replicas, steered by files."""
