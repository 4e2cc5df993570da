"""A Celery app on the Redis that REDIS_URL names."""

import os
from pathlib import Path

import gate
from celery import Celery

app = Celery("jobs", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    beat_schedule={"tick": {"task": "jobs.tick", "schedule": 0.2}},
    broker_connection_retry_on_startup=True,
    # A second must not pass between two polls of an idle worker where a test waits for it.
    broker_transport_options={"polling_interval": 0.05},
    task_acks_late=True,
    worker_prefetch_multiplier=1,
)


@app.task
def add(left, right):
    return left + right


@app.task
def hold(name):
    gate.pass_through(name)
    return {"held": name, "pid": os.getpid()}


@app.task
def boom():
    raise ValueError("the kettle has boiled over")


@app.task(ignore_result=True)
def tick():
    with (Path(os.environ["GATES"]) / "ticks").open("a") as ticks:
        ticks.write(f"{os.getpid()}\n")
