"""What a serving pod knows of itself: an ASGI middleware inside of vLLM's own server.

`middleware.py` is what vLLM loads. It tags responses, counts and measures requests
(`measurement.py`, `event_stream.py`, `sample_ring.py`), and answers below /tunesmith/.
`watch.py` asks the engine for the version's fingerprints (`fingerprints.py`) and keeps what
`readiness.py` judges by. `drain.py` is the pod's preStop. None of it imports vLLM or torch.
"""
