"""Pure decisions: no clock, no operating system, no I/O, no randomness, no logging."""
