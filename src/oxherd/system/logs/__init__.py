"""Child output: pipes, log files with rotation and an index, the echo of ``oxherd run``, and the reader behind ``oxherd logs``.

The supervisor imports `oxherd.system.logs.sink` and what that needs; the CLI imports `oxherd.system.logs.reader`.
"""
