"""A ModelDeployment on one machine: its replicas, its rollout and its proxy as processes."""
