"""The checks of ``oxherd doctor``, by what they look at."""
