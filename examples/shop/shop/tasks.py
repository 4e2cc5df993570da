"""The Celery app. Its broker is a folder, so that the example needs no server; use Redis or RabbitMQ for work."""

from __future__ import annotations

from celery import Celery
from celery.utils.log import get_task_logger

from shop import database

log = get_task_logger(__name__)

queue = database.DATA / "queue"
for folder in ("messages", "control"):
    (queue / folder).mkdir(parents=True, exist_ok=True)

app = Celery("shop", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(queue / "messages"),
        "data_folder_out": str(queue / "messages"),
        "control_folder": str(queue / "control"),
        "polling_interval": 0.1,
    },
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    beat_schedule={"look-after-orders": {"task": "shop.tasks.look_after_orders", "schedule": 2.0}},
)


@app.task
def prepare(number: int) -> None:
    """Prepare one order."""
    if database.prepare_order(number):
        log.info("order %d is ready", number)


@app.task
def look_after_orders() -> None:
    """Prepare again what was forgotten: a broker of files loses the message whose worker is killed."""
    forgotten = database.waiting_orders(older_than=5.0)
    for number in forgotten:
        prepare.delay(number)
    database.add_tick(len(forgotten))
    log.info("tick: %d forgotten", len(forgotten))
