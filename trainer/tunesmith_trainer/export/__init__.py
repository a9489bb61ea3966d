"""The stage that writes the tuned model in formats for devices, and proves each of them."""
