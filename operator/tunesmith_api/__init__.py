"""Resource types of the group tunesmith.dev: one set of models that validates manifests and generates the CRDs."""
