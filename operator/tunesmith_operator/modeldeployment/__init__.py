"""The controller of ModelDeployments: replicas, routes and rollouts in a cluster."""
