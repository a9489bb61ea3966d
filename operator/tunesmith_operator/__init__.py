"""The operator: FineTuneJobs of a Kubernetes cluster, taken through the same life as local ones."""
