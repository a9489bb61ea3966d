"""What talks Kubernetes, and knows no kind of ours: client, pods, Job, RayJob, Kueue."""
