"""What knows controllers, and no kind: queue, caches, event router, metrics, health, leader."""
