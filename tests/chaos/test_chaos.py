"""A short run of chaos with a seed that does not change: each action of the list once, every promise looked at after each.

``./bench/chaos`` runs longer ones, with seeds of their own; docs/operations/chaos.md.
"""

from __future__ import annotations

from chaos.actions import ACTIONS
from chaos.report import as_json, replay, table
from chaos.run import Options, Run

# The others take longer (a broken release waits for its health check) or are variations of these.
SHORT = (
    "kill-worker",
    "kill-zygote-and-worker",
    "kill-command",
    "kill-supervisor-and-zygote",
    "kill-supervisor-and-worker",
    "kill-supervisor-in-reload",
    "stop-worker",
    "stop-supervisor",
    "kill-in-reload",
    "scale",
    "edit",
    "edit-badly",
    "fill-disk",
    "remove-socket",
    "upgrade",
)
SEED = 4


def test_every_promise_is_kept_through_a_seeded_run(capsys):
    options = Options(seed=SEED, steps=len(SHORT), actions=SHORT)
    outcome = Run(options, print).run()
    if outcome.violations:
        print(table(outcome), outcome.report, sep="\n")
    assert [violation.text for violation in outcome.violations] == [], replay(outcome)
    assert {sheet["action"] for sheet in outcome.steps} == set(SHORT) - outcome.skipped.keys()
    assert outcome.skipped.keys() <= {"fill-disk"}
    assert all(report["classes"]["ok"] > 500 for report in outcome.reports.values()), outcome.reports
    assert outcome.logs["writer"]["lines"] > 1000
    assert outcome.base not in as_json(outcome)


def test_the_short_run_is_of_actions_there_are():
    assert set(SHORT) <= ACTIONS.keys()
