"""What runs in the interpreter of an app: Oxherd's zygote and workers.

An island: the standard library only, Python 3.10 or newer, relative imports. In an app's process the package is loaded
under the private name ``_oxherd_host``, so that it shadows nothing of the app and needs nothing installed there. The
supervisor imports `wire` and `meters` of it, the two modules that describe what both sides read and write.
"""
