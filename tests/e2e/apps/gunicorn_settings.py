"""What `gunicorn -c` reads."""

import os

bind = f"127.0.0.1:{os.environ['PORT']}"
workers = 2
worker_class = "gthread"
threads = 3
accesslog = "-"
graceful_timeout = 60
raw_env = ["FROM_CONFIG=gunicorn_settings"]
proc_name = "flasky"
