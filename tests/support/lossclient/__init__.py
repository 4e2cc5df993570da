"""A load client that never retries and counts every request: what was lost, how, when, and on whom.

It is a process of its own, so that neither side's pauses disturb the other, and is told what to do in JSON lines on its
standard input; see ``__main__``. It speaks HTTP over raw sockets and parses the answers itself: a library's pool would
hide exactly what is looked for, the connection that was closed under a request.
"""
