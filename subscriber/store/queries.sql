-- The statements of the SQLite store, by name. Parameters are named; lists come as JSON arrays.
-- The columns that a statement returns carry the names of the fields that they fill.

-- name: identity
SELECT identity FROM store;

-- name: journals
SELECT journal, repo, relay, scanned, since, head, first_seen, stopped, sequence AS origin
FROM journal LEFT JOIN origin USING (journal) ORDER BY number;

-- name: scope
SELECT scope FROM scope;

-- name: set_scope
INSERT INTO scope (one, scope) VALUES (1, :scope)
ON CONFLICT (one) DO UPDATE SET scope = excluded.scope;

-- name: begin_anew
INSERT INTO origin (journal, sequence)
SELECT journal, scanned FROM journal WHERE scanned IS NOT NULL
ON CONFLICT (journal) DO UPDATE SET sequence = excluded.sequence;

-- name: set_origin
INSERT INTO origin (journal, sequence) VALUES (:journal, :origin)
ON CONFLICT (journal) DO UPDATE SET sequence = excluded.sequence;

-- name: relay
SELECT 1 FROM relay WHERE name = :relay;

-- name: contacts
SELECT relay, seen, failed, error FROM contact ORDER BY relay;

-- name: heard
INSERT INTO contact (relay, seen) VALUES (:relay, :now)
ON CONFLICT (relay) DO UPDATE SET seen = excluded.seen;

-- name: failed
INSERT INTO contact (relay, failed, error) VALUES (:relay, :now, :error)
ON CONFLICT (relay) DO UPDATE SET failed = excluded.failed, error = excluded.error;

-- name: held
SELECT journal, repo, branch, min(sequence) AS first, max(sequence) AS last, count(*) AS count
FROM event WHERE held = 1 GROUP BY journal, repo, branch ORDER BY min(number);

-- name: decisions
SELECT at, who, verb, journal, branch, sequence, reason FROM decision
WHERE journal = :journal ORDER BY number;

-- name: decide
INSERT INTO decision (at, who, verb, journal, branch, sequence, reason)
VALUES (:at, :who, :verb, :journal, :branch, :sequence, :reason);

-- name: chain
SELECT branch, sequence, sha256 FROM chain_head WHERE journal = :journal;

-- name: digest
SELECT sha256 FROM event WHERE journal = :journal AND sequence = :sequence;

-- name: digests
SELECT sequence, sha256 FROM event
WHERE journal = :journal AND sequence IN (SELECT value FROM json_each(:sequences));

-- name: parts
SELECT event FROM event
WHERE journal = :journal AND branch = :branch AND sequence BETWEEN :first AND :last
ORDER BY sequence;

-- name: certificate
SELECT token FROM certificate WHERE sha256 = :sha256;

-- name: event
SELECT * FROM event WHERE journal = :journal AND sequence = :sequence;

-- name: events
SELECT * FROM event WHERE number > :after ORDER BY number LIMIT :limit;

-- name: newest_event
SELECT coalesce(max(number), 0) FROM event;

-- name: delivery
SELECT delivery.*, rule, order_key, lane.due AS until
FROM delivery JOIN lane USING (lane) WHERE id = :id;

-- name: deliveries
SELECT delivery.*, rule, order_key, lane.due AS until
FROM delivery JOIN lane USING (lane)
WHERE number > :after
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:rule IS NULL OR rule = :rule)
    AND (:repo IS NULL OR repo = :repo)
    AND (:branch IS NULL OR branch = :branch)
    AND (:event_id IS NULL OR event_id = :event_id)
ORDER BY number LIMIT :limit;

-- name: newest_deliveries
SELECT delivery.*, rule, order_key, lane.due AS until
FROM delivery JOIN lane USING (lane)
WHERE number > :after
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:rule IS NULL OR rule = :rule)
    AND (:repo IS NULL OR repo = :repo)
    AND (:branch IS NULL OR branch = :branch)
    AND (:event_id IS NULL OR event_id = :event_id)
ORDER BY number DESC LIMIT :limit;

-- name: receipts
SELECT receipt.* FROM receipt JOIN delivery ON receipt.delivery = delivery.number
WHERE delivery.id = :id ORDER BY receipt.fence;

-- name: receipt
SELECT receipt.* FROM receipt JOIN delivery ON receipt.delivery = delivery.number
WHERE delivery.id = :id AND receipt.fence = :fence;

-- name: status_events
SELECT (SELECT count(*) FROM event) AS events,
    (SELECT count(*) FROM event WHERE held = 1) AS held_events,
    (SELECT min(created) FROM delivery WHERE ended IS NULL) AS oldest_open;

-- name: status_deliveries
SELECT state, count(*) FROM delivery GROUP BY state;

-- name: learn
INSERT INTO relay (name, learned) VALUES (:relay, :now) ON CONFLICT DO NOTHING;

-- name: note_head
INSERT INTO journal (journal, repo, relay, scanned, since, head, first_seen)
VALUES (:journal, :repo, :relay, :scanned, :since, :head, :now)
ON CONFLICT (journal) DO UPDATE SET relay = excluded.relay, head = excluded.head;

-- name: stop_journal
UPDATE journal SET stopped = :reason WHERE journal = :journal;

-- name: position
SELECT scanned FROM journal WHERE journal = :journal;

-- name: move
INSERT INTO journal (journal, repo, relay, scanned, head, first_seen)
VALUES (:journal, :repo, :relay, :scanned, :scanned, :seen)
ON CONFLICT (journal) DO UPDATE SET
    repo = excluded.repo,
    relay = excluded.relay,
    stopped = CASE WHEN scanned IS excluded.scanned AND NOT :fresh THEN stopped END,
    scanned = excluded.scanned,
    since = NULL,
    head = max(head, excluded.head);

-- name: add_certificate
INSERT INTO certificate (sha256, token) VALUES (:sha256, :token) ON CONFLICT DO NOTHING;

-- name: add_event
INSERT INTO event (
    journal, sequence, sha256, repo, branch, topic, event_id, type, "transaction", part, parts,
    event, signature, certificate, received, held
) VALUES (
    :journal, :sequence, :sha256, :repo, :branch, :topic, :event_id, :type, :transaction, :part,
    :parts, :event, :signature, :certificate, :received, :held
);

-- name: link
INSERT INTO chain_head (journal, branch, sequence, sha256)
VALUES (:journal, :branch, :sequence, :sha256)
ON CONFLICT (journal, branch) DO UPDATE SET
    sequence = excluded.sequence, sha256 = excluded.sha256;

-- name: continue
INSERT INTO continued (journal, branch, before, sequence)
VALUES (:journal, :branch, :before, :sequence)
ON CONFLICT (journal, branch) DO UPDATE SET
    before = excluded.before, sequence = excluded.sequence;

-- name: lane
SELECT lane FROM lane WHERE rule = :rule AND order_key = :order_key;

-- name: add_lane
INSERT INTO lane (rule, order_key) VALUES (:rule, :order_key) RETURNING lane;

-- name: add_delivery
INSERT INTO delivery (
    id, lane, repo, branch, topic, journal, event_id, first, last, node, user, created, state
) SELECT
    :id, :lane, :repo, :branch, :topic, :journal, :event_id, :first, :last, :node, :user, :created,
    CASE WHEN EXISTS (
        SELECT 1 FROM event
        WHERE event.journal = :journal AND event.branch = :branch AND held = 1
            AND sequence BETWEEN :first AND :last
    ) THEN 'held' ELSE 'pending' END
WHERE true
ON CONFLICT (id) DO NOTHING RETURNING number;

-- name: release_events
UPDATE event SET held = 0 WHERE number IN (
    WITH RECURSIVE chained (journal, up_to) AS (
        VALUES (:journal, :up_to)
        UNION
        SELECT before, sequence FROM continued JOIN chained USING (journal) WHERE branch = :branch
    )
    SELECT number FROM event JOIN chained USING (journal)
    WHERE branch = :branch AND sequence <= up_to AND held = 1
);

-- name: release_deliveries
UPDATE delivery SET state = 'pending'
WHERE state = 'held' AND NOT EXISTS (
    SELECT 1 FROM event
    WHERE event.journal = delivery.journal AND event.branch = delivery.branch AND held = 1
        AND sequence BETWEEN delivery.first AND delivery.last
)
RETURNING lane, number;

-- name: first_open
SELECT number, id, state FROM delivery
WHERE lane = :lane AND ended IS NULL ORDER BY number LIMIT 1;

-- name: add_store
INSERT INTO store (one, identity, fence, turn) VALUES (1, :identity, 0, 0) ON CONFLICT DO NOTHING;

-- name: next_fence
UPDATE store SET fence = max(fence + 1, :micros) RETURNING fence;

-- name: queue_lane
UPDATE lane SET due = NULL, turn = (SELECT turn FROM store) WHERE lane = :lane;

-- name: next_turn
UPDATE store SET turn = turn + 1;

-- name: settle_lane
UPDATE lane SET due = :due, turn = NULL WHERE lane = :lane;

-- name: due_lanes
SELECT lane FROM lane
WHERE due <= :now AND (:rules IS NULL OR rule IN (SELECT value FROM json_each(:rules)))
ORDER BY due LIMIT :limit;

-- name: ready_lanes
SELECT lane FROM lane
WHERE turn IS NOT NULL AND (:rules IS NULL OR rule IN (SELECT value FROM json_each(:rules)))
ORDER BY turn LIMIT :limit;

-- name: lease
UPDATE delivery SET state = 'running', fence = :fence, owner = :owner, claimed = :now
WHERE number = :number;

-- name: extend
UPDATE lane SET due = :until WHERE lane = (
    SELECT lane FROM delivery WHERE id = :id AND fence = :fence AND state = 'running'
);

-- name: end
UPDATE delivery SET
    state = :state,
    attempts = attempts + :counted,
    lost = lost + :lost,
    reason = :reason,
    owner = NULL,
    claimed = NULL,
    ended = :ended
WHERE number = :number;

-- name: add_receipt
INSERT INTO receipt (
    delivery, fence, attempt, owner, started, ended, verdict, reason, exit_status, signal, output,
    truncated, counted
) VALUES (
    :delivery, :fence, :attempt, :owner, :started, :ended, :verdict, :reason, :exit_status,
    :signal, :output, :truncated, :counted
);

-- name: any_ready
SELECT 1 FROM lane
WHERE turn IS NOT NULL AND (:rules IS NULL OR rule IN (SELECT value FROM json_each(:rules)))
LIMIT 1;

-- name: first_due
SELECT min(due) FROM lane
WHERE due IS NOT NULL AND (:rules IS NULL OR rule IN (SELECT value FROM json_each(:rules)));

-- name: held_by
SELECT delivery.*, rule, order_key, lane.due AS until
FROM delivery JOIN lane USING (lane)
WHERE id = :id AND fence = :fence AND state = 'running';

-- name: running
SELECT delivery.*, rule, order_key, lane.due AS until
FROM delivery JOIN lane USING (lane)
WHERE state = 'running' AND (:owner IS NULL OR owner = :owner) ORDER BY number;
