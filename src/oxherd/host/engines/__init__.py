"""The engines: one module each, imported only in a worker that uses it."""
