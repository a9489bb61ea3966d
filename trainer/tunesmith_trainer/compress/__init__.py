"""The compress stage: merge, quantize, measure again, and ship only what kept its quality."""
