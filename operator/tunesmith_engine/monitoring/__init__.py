"""Monitoring of deployments, pure: which metrics there are, and which rules follow from an SLO."""
