"""Resource types of the group tunesmith.dev.

One set of models that validates manifests and generates the CRDs.
"""
