"""The stages that touch the serving engine, and the way to serve a finished model."""
