"""When a cron expression is due next, in any timezone, across daylight saving.

Pure: times are arguments, unix seconds in and out. Expressions have five fields, or six with seconds first, or are one
of the nicknames (``@daily``); cronsim reads them.

Daylight saving follows Debian's cron. A job at a fixed hour and minute runs exactly once a day: if its time is skipped
it runs when the clock has jumped, if its time comes twice it runs the first time. A job whose hour or minute field
starts with ``*`` means "every so often" and follows elapsed time. cronsim does this for five fields only, so it is done
here for both.

cronsim and the datetime module are imported when the first expression is read: a supervisor without schedules does not
pay for them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, tzinfo

__all__ = ["check_cron", "check_timezone", "describe", "is_fixed", "missed", "next_run"]

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_EXPECTED = 'a cron expression such as "0 3 * * *" (5 fields), "*/10 * * * * *" (6, seconds first) or "@daily"'

# More steps than any zone needs to leave a gap or to come out of the repeated hour.
_MAX_STEPS = 10_000


def _expand(cron: str) -> str:
    """Return the five or six fields of an expression.

    ``?`` stands for ``*`` as in Quartz.
    """
    text = cron.strip()
    return _NICKNAMES.get(text.lower(), text).replace("?", "*")


def check_cron(cron: str) -> None:
    """Make sure an expression can be read and is due at least once in the coming decades.

    Raises:
        ValueError: It is not; the text says what is accepted.
    """
    next_run(cron, "UTC", 0.0)


def check_timezone(timezone: str) -> None:
    """Make sure a timezone is known here.

    Raises:
        ValueError: It is not; the text says what is accepted.
    """
    _zone(timezone)


def next_run(cron: str, timezone: str | None, after: float) -> float:
    """Return the first unix time strictly after ``after`` at which the expression is due.

    Args:
        cron: Five or six fields, or a nickname.
        timezone: An IANA name such as "Europe/Berlin", or None for the machine's own.
        after: Unix seconds.

    Raises:
        ValueError: The expression or the timezone cannot be read, or it is never due ("0 0 31 2 *").
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only where there is a schedule

    zone = _zone(timezone)
    fields = _expand(cron)
    start = datetime.fromtimestamp(int(after), UTC).astimezone(zone)
    fixed = is_fixed(cron)
    try:
        for due in CronSim(fields, start.replace(tzinfo=None, fold=0) if fixed else start):
            moment = _real(due, zone) if fixed else due
            # In the hour that comes twice the wall clock runs behind: skip what the first pass has done.
            if moment.timestamp() > after:
                return moment.timestamp()
    except CronSimError as error:
        raise ValueError(f"{_EXPECTED}; {str(error)[:1].lower()}{str(error)[1:]}") from None
    raise ValueError(f"{_EXPECTED} that comes to pass")


def missed(cron: str, timezone: str | None, last_run: float, now: float) -> bool:
    """Say whether a run was due after ``last_run`` and not later than ``now``, both unix seconds.

    Raises:
        ValueError: As `next_run`.
    """
    return next_run(cron, timezone, last_run) <= now


def is_fixed(cron: str) -> bool:
    """Say whether an expression names hours and minutes ("0 3 * * *"), as opposed to "every so often"."""
    parts = _expand(cron).split()
    minute, hour = parts[-5:-3] if len(parts) in {5, 6} else ("*", "*")
    return not minute.startswith("*") and not hour.startswith("*")


def describe(cron: str) -> str:
    """Return an expression in English: "At 03:00 every day".

    Raises:
        ValueError: The expression cannot be read.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only where there is a schedule

    try:
        return str(CronSim(_expand(cron), datetime.fromtimestamp(0, UTC)).explain())
    except CronSimError as error:
        raise ValueError(f"{_EXPECTED}; {str(error)[:1].lower()}{str(error)[1:]}") from None


def _zone(timezone: str | None) -> tzinfo:
    if timezone is None:
        return _local_zone()
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - only where a timezone is named

    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: names such as "Europe" are directories of the database.
        raise ValueError('a timezone such as "UTC" or "Europe/Berlin"') from None


def _local_zone() -> tzinfo:
    """Return the machine's timezone with its daylight saving rules, whatever names it: TZ, /etc/localtime."""
    from datetime import UTC, timedelta, tzinfo  # noqa: PLC0415

    class Local(tzinfo):
        """The C library's local time; ``datetime.now().astimezone()`` alone would freeze today's offset."""

        def utcoffset(self, dt: datetime | None) -> timedelta | None:
            return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

        def dst(self, _dt: datetime | None) -> timedelta | None:
            return None

        def tzname(self, dt: datetime | None) -> str | None:
            return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

        def fromutc(self, dt: datetime) -> datetime:
            local = dt.replace(tzinfo=UTC).astimezone()
            naive = local.replace(tzinfo=None, fold=0)
            later = naive.astimezone().utcoffset() != local.utcoffset()
            return naive.replace(tzinfo=self, fold=int(later))

    return Local()


def _real(due: datetime, zone: tzinfo) -> datetime:
    """Return the moment of a wall clock time; a time the clock skips becomes the minute after the gap."""
    from datetime import UTC, timedelta  # noqa: PLC0415

    for _ in range(_MAX_STEPS):
        moment = due.replace(tzinfo=zone, fold=0)
        back = moment.astimezone(UTC).astimezone(zone)
        if back.replace(tzinfo=None) == due:
            return moment
        due = due.replace(second=0) + timedelta(minutes=1)
    raise AssertionError(f"no such time within a week of {due}")
