"""The judge of a rollout: candidate against stable, pure over what was observed of each request.

`samples` are judged by `judge` within `limits`; `recording` keeps both for a replay.
"""
