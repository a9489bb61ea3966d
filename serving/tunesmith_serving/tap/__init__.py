"""What is learnt of requests as they pass: numbers alone, never what was asked or answered."""
