"""Stages that do nothing but what a test asked for, through the real entry of a stage process."""
