"""The Celery app of the documentation's first oxfile."""

import os

from celery import Celery

app = Celery("tasks", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.beat_schedule = {"look-around": {"task": "tasks.look", "schedule": 0.5}}
app.conf.broker_connection_retry_on_startup = True


@app.task
def look():
    return os.getpid()
