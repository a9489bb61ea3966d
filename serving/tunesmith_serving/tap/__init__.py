"""What is learnt of requests as they pass: numbers alone, never what was asked or answered.

`metrics` counts for Prometheus. `tap` has each request measured (`tapped_request.py`) and hands
out sketches of them in blocks (`block_ring.py`), by which drift is noticed.
"""
