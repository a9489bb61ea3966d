"""The operator as a program."""

from tunesmith_operator.controller.runner import main

__all__ = ["main"]
