"""Taking over what a dead supervisor has left running; loaded only when there is something to take over."""
