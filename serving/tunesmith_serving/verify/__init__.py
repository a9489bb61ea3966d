"""The verify stage: does vLLM answer as transformers does, through both of its ways to compute?"""
