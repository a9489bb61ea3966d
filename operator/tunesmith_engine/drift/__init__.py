"""Whether the traffic of a version has moved away from what the version was made for.

`signals` turns one request into a few small numbers, for the trainer and for a replica alike;
`sketches` counts them. No text outlives `measure`.
"""
