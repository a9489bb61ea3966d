"""The operator: the jobs and deployments of a cluster, taken through the same life as local ones.

In rooms, each of which may use what comes after it (`.importlinter`): `app.py` registers the
controllers, `finetunejob/` and `modeldeployment/` are one each, `controller/` runs whatever is
registered, and `kube/` talks to the API server.
"""
