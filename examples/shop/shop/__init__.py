"""A shop small enough to read in a minute: SQLite holds the orders, Celery prepares them."""
