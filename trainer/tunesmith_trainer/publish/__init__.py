"""The last stage: everything that belongs to a version, in one folder, at its target."""
