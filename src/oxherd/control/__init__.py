"""The control protocol and its client."""
