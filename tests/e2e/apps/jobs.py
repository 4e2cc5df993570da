"""A Celery app on the Redis that REDIS_URL names; it notices when two of it run that must not."""

import fcntl
import os
from pathlib import Path

import gate
from celery import Celery, signals

app = Celery("jobs", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    beat_schedule={"tick": {"task": "jobs.tick", "schedule": 0.2}},
    beat_max_loop_interval=1,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)
FILES = Path(os.environ["GATES"])
kept = []


def write(name, line):
    with (FILES / name).open("a") as file:
        file.write(f"{line}\n")


def claim(name, kind):
    """Lock a file until this process ends; a lock that is held by another one is an overlap, which is written down."""
    file = (FILES / f"{name}.lock").open("w")
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        write("overlaps", f"{name} {os.getpid()}")
    return file


@signals.beat_init.connect
def beat_begins(**_kwargs):
    kept.append(claim("beat", fcntl.LOCK_EX))
    write("beats", os.getpid())


@signals.worker_init.connect
def main_begins(**_kwargs):
    # Held no longer than the question takes: its own pool is about to be forked.
    claim("pool", fcntl.LOCK_EX).close()


@signals.worker_process_init.connect
def pool_process_begins(**_kwargs):
    kept.append(claim("pool", fcntl.LOCK_SH))
    write("pool", os.getpid())


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
    write("ticks", os.getpid())
