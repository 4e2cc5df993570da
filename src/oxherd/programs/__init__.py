"""What Oxherd knows of well-known commands."""
