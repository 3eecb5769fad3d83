"""What the operator shows of itself: numbers, and whether it is alive and ready."""
