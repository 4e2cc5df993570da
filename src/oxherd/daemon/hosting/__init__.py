"""Hosted processes: their listeners, zygotes and workers, who accepts where, reloads, recycling, hang detection."""
