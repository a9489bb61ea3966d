"""`ModelDeployment`: its spec part by part, its status and its rules."""
