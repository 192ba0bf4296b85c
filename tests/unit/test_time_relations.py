"""Times that only make sense beside each other: a change of one that breaks another fails here, by name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from paytrust import server
from paytrust.contract import http
from paytrust.idempotency.service import KEPT
from paytrust.idempotency.service import LEASE as CLAIM_LEASE
from paytrust.infra import db, rate_limits, settings, worker
from paytrust.invoices.model import drafting
from paytrust.keys import jobs as key_jobs
from paytrust.keys.service import CACHE_TTL_S
from paytrust.payments import jobs as payment_jobs
from paytrust.payments.model import attempt, polling
from paytrust.plugins import breaker, calls
from paytrust.reconciliation import jobs as comparison
from paytrust.reconciliation import service as reconciliation
from paytrust.secrets import service as secrets
from paytrust.webhooks.model import RETRY_AFTER
from paytrust.webhooks.store import LEASE as WEBHOOK_LEASE

CALL_S = calls.SLOT_WAIT_S + calls.PLUGIN_DEADLINE_S + calls.CANCEL_GRACE_S
"""The longest that one call of a gateway takes."""
WORK_CALL_S = calls.WORK_SLOT_WAIT_S + calls.PLUGIN_DEADLINE_S + calls.CANCEL_GRACE_S
WRITE_S = db.ACQUIRE_TIMEOUT_S + db.BEGIN_TIMEOUT_S + db.STATEMENT_TIMEOUT_MS / 1000 + db.ANSWER_MARGIN_S
"""The longest that a transaction of one statement takes."""

RELATIONS = {
    "an HTTP call ends before its plugin is cut off": (http.DEADLINE_S, calls.PLUGIN_DEADLINE_S),
    "a connection is made before the call's deadline": (http.CONNECT_S, http.DEADLINE_S),
    "a create at the gateway and its outcome written are not taken for a lost process": (
        CALL_S + 2 * WRITE_S,
        attempt.ABANDONED_AFTER.total_seconds(),
    ),
    "a request and its outcome written keep their claim": (CALL_S + 2 * WRITE_S, CLAIM_LEASE.total_seconds()),
    "a claim does not outlive the key it belongs to": (CLAIM_LEASE.total_seconds(), KEPT.total_seconds()),
    "a webhook asks once and is written down before another process may take it": (
        WORK_CALL_S + WRITE_S,
        WEBHOOK_LEASE.total_seconds(),
    ),
    "a look at an attempt ends before another process may take it": (
        3 * WORK_CALL_S + 2 * WRITE_S,
        payment_jobs.LEASE.total_seconds(),
    ),
    "the server waits for a call and its outcome when it stops": (calls.PLUGIN_DEADLINE_S, server.STOP_S),
    "a ping answers before those who ask give up": (db.PING_TIMEOUT_S, 2.0),
    "a row's lock is waited for less long than its statement may take": (
        db.LOCK_TIMEOUT_MS,
        db.STATEMENT_TIMEOUT_MS,
    ),
    "the server ends a statement before we stop waiting for it": (
        db.STATEMENT_TIMEOUT_MS / 1000,
        db.STATEMENT_TIMEOUT_MS / 1000 + db.ANSWER_MARGIN_S,
    ),
    "two calls that run into their deadlines lie within the breaker's window": (
        2 * calls.PLUGIN_DEADLINE_S,
        breaker.WINDOW_S + calls.CANCEL_GRACE_S,
    ),
    "an open circuit closes before the first retry of a webhook": (
        breaker.OPEN_S,
        RETRY_AFTER[0].total_seconds(),
    ),
    "every process has read a new data key before values are sealed with it": (
        secrets.FRESH_S + CALL_S,
        secrets.PROPAGATION_S,
    ),
    "a gateway that closes a little early does not end an invoice before its time": (
        polling.EXPIRY_SLACK.total_seconds(),
        drafting.EXPIRY_MIN.total_seconds(),
    ),
    "an attempt that ended is asked about again before it is forgotten": (
        polling.LATE_CHECK.total_seconds(),
        polling.GRACE.total_seconds(),
    ),
    "each comparison begins before the last one ended": (
        reconciliation.UNDER_WAY.total_seconds(),
        comparison.LOOKBACK_OVERLAP.total_seconds(),
    ),
    "what is under way is not compared": (
        attempt.ABANDONED_AFTER.total_seconds(),
        reconciliation.UNDER_WAY.total_seconds(),
    ),
    "a revoked key that was not heard of is read again": (CACHE_TTL_S, rate_limits.WINDOW_S),
    "a listener asks again before a cached key is old": (key_jobs.ASK_S + key_jobs.ECHO_S, CACHE_TTL_S),
    "a store of rates that is away costs a request less than it may wait": (
        rate_limits.STORE_DEADLINE_S,
        rate_limits.STORE_RETRY_S,
    ),
    "a worker that is told to stop looks before it is cut off": (worker.POLL_MIN_S, worker.STOP_S),
}


@pytest.mark.parametrize(("shorter", "longer"), RELATIONS.values(), ids=RELATIONS)
def test_times_fit_each_other(shorter, longer):
    assert shorter < longer


def test_retries_of_a_webhook_grow():
    assert list(RETRY_AFTER) == sorted(set(RETRY_AFTER))


def test_the_request_of_a_client_outlives_a_call_to_a_gateway():
    fields = settings.Settings.model_fields
    assert fields["send_timeout_s"].default > calls.PLUGIN_DEADLINE_S
    assert timedelta(seconds=fields["keep_alive_s"].default) > timedelta(seconds=calls.PLUGIN_DEADLINE_S)
