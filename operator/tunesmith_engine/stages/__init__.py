"""The contract between the engine and the processes that do the work.

Stages import this and nothing else of the engine.
"""
