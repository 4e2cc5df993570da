"""From an oxfile to the frozen model."""
