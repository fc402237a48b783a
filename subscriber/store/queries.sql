-- The statements of the SQLite store, by name. Parameters are named, but where rows are added whole;
-- lists come as JSON arrays.
-- The columns that a statement returns carry the names of the fields that they fill.

-- name: identity
SELECT identity FROM store;

-- name: journals
SELECT journal, repo, relay, scanned, since, head, first_seen, stopped,
    origin.sequence AS origin, coalesce(pruned.sequence, 0) AS pruned
FROM journal LEFT JOIN origin USING (journal) LEFT JOIN pruned USING (journal) ORDER BY number;

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

-- name: trace
SELECT * FROM event
WHERE number IN (SELECT event FROM node WHERE node >= :node AND node < :node || 'g')
ORDER BY number LIMIT :limit;

-- name: newest_event
SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event';

-- name: delivery
SELECT * FROM delivery WHERE id = :id;

-- Of these two, the lines of what is not asked for are left out.

-- name: deliveries
SELECT * FROM delivery
WHERE true
    AND number > :after
    AND state = :state
    AND rule = :rule
    AND repo = :repo
    AND branch = :branch
    AND event_id = :event_id AND last = :last
    AND id >= :id AND id < :id || char(1114111)
    AND created >= :since
    AND created < :until
ORDER BY number LIMIT :limit;

-- name: newest_deliveries
SELECT * FROM delivery
WHERE true
    AND number > :after
    AND state = :state
    AND rule = :rule
    AND repo = :repo
    AND branch = :branch
    AND event_id = :event_id AND last = :last
    AND id >= :id AND id < :id || char(1114111)
    AND created >= :since
    AND created < :until
ORDER BY number DESC LIMIT :limit;

-- name: receipts
SELECT receipt.* FROM receipt JOIN delivery ON receipt.delivery = delivery.number
WHERE delivery.id = :id ORDER BY receipt.fence;

-- name: receipt
SELECT receipt.* FROM receipt JOIN delivery ON receipt.delivery = delivery.number
WHERE delivery.id = :id AND receipt.fence = :fence;

-- name: paused
SELECT rule, who, at, reason FROM pause ORDER BY rule;

-- name: status_events
SELECT (SELECT coalesce(sum(events), 0) FROM certificate) AS events,
    (SELECT count(*) FROM event WHERE held = 1) AS held_events;

-- name: first_of_state
SELECT number, created FROM delivery WHERE state = :state ORDER BY number LIMIT 1;

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
    number, journal, sequence, sha256, repo, branch, topic, event_id, type, "transaction", part,
    parts, event, signature, certificate, received, held, nodes
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: count_events
UPDATE certificate SET events = events + :count WHERE sha256 = :sha256;

-- name: add_node
INSERT INTO node (node, event) VALUES (:node, :event) ON CONFLICT DO NOTHING;

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

-- name: pruned
SELECT sequence FROM pruned WHERE journal = :journal;

-- name: known_deliveries
SELECT id FROM delivery WHERE id IN (SELECT value FROM json_each(:ids));

-- name: add_rule
INSERT INTO rule (rule) VALUES (:rule) ON CONFLICT DO NOTHING;

-- name: any_held
SELECT EXISTS (SELECT 1 FROM event WHERE held = 1);

-- name: add_delivery
INSERT INTO delivery (
    id, rule, order_key, repo, branch, topic, journal, event_id, first, last, node, user, created,
    latest, state
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending');

-- name: hold_delivery
UPDATE delivery SET state = 'held' WHERE id = :id AND EXISTS (
    SELECT 1 FROM event
    WHERE event.journal = delivery.journal AND event.branch = delivery.branch AND held = 1
        AND sequence BETWEEN delivery.first AND delivery.last
);

-- name: add_lane
INSERT INTO lane (rule, order_key, turn) VALUES (
    :rule, :order_key,
    CASE WHEN EXISTS (SELECT 1 FROM delivery WHERE id = :id AND state = 'pending') THEN
        1 + coalesce((SELECT max(turn) FROM lane WHERE rule = :rule AND turn IS NOT NULL), 0)
    END
) ON CONFLICT DO NOTHING;

-- name: release_events
UPDATE event SET held = 0
WHERE journal = :journal AND branch = :branch AND sequence <= :up_to AND held = 1;

-- name: continued
SELECT before, sequence FROM continued WHERE journal = :journal AND branch = :branch;

-- name: release_deliveries
UPDATE delivery SET state = 'pending'
WHERE state = 'held' AND NOT EXISTS (
    SELECT 1 FROM event
    WHERE event.journal = delivery.journal AND event.branch = delivery.branch AND held = 1
        AND sequence BETWEEN delivery.first AND delivery.last
)
RETURNING number, rule, order_key;

-- name: lane
SELECT state, due,
    (
        SELECT latest FROM delivery
        WHERE rule = :rule AND order_key = :order_key AND ended IS NULL
        ORDER BY number DESC LIMIT 1
    ) AS latest
FROM delivery WHERE rule = :rule AND order_key = :order_key AND ended IS NULL
ORDER BY number LIMIT 1;

-- name: leased
SELECT EXISTS (
    SELECT 1 FROM delivery
    WHERE state = 'running' AND rule = :rule AND order_key = :order_key
);

-- name: waiting
SELECT number, id, created FROM delivery
WHERE rule = :rule AND order_key = :order_key AND ended IS NULL
    AND state IN ('pending', 'retrying')
ORDER BY number;

-- name: drop_lane
DELETE FROM lane WHERE rule = :rule AND order_key = :order_key;

-- name: queue_lane
INSERT INTO lane (rule, order_key, turn) VALUES (
    :rule, :order_key,
    1 + coalesce((SELECT max(turn) FROM lane WHERE rule = :rule AND turn IS NOT NULL), 0)
) ON CONFLICT DO UPDATE SET due = NULL, turn = coalesce(turn, excluded.turn);

-- name: still_lane
INSERT INTO lane (rule, order_key, due) VALUES (:rule, :order_key, :due)
ON CONFLICT DO UPDATE SET due = excluded.due, turn = NULL;

-- name: add_store
INSERT INTO store (one, identity) VALUES (1, :identity) ON CONFLICT DO NOTHING;

-- name: fence
SELECT coalesce(max(turn), 0) FROM rule;

-- name: expired
SELECT * FROM delivery WHERE state = 'running' AND lease_until <= :now
ORDER BY lease_until, number;

-- name: leases
SELECT rule, lock, lease_until AS until FROM delivery WHERE state = 'running';

-- name: running
SELECT * FROM delivery WHERE state = 'running' AND (:owner IS NULL OR owner = :owner)
ORDER BY lease_until, number;

-- name: candidates
SELECT rule, turn,
    EXISTS (SELECT 1 FROM lane WHERE lane.rule = rule.rule AND lane.turn IS NOT NULL) AS ready,
    (SELECT min(due) FROM lane WHERE lane.rule = rule.rule AND due IS NOT NULL) AS due
FROM rule WHERE NOT EXISTS (SELECT 1 FROM pause WHERE pause.rule = rule.rule);

-- name: due_lanes
SELECT order_key FROM lane WHERE rule = :rule AND due <= :now
ORDER BY due, order_key LIMIT :limit;

-- name: ready
SELECT delivery.* FROM lane JOIN delivery ON number = (
    SELECT min(number) FROM delivery AS open
    WHERE open.rule = lane.rule AND open.order_key = lane.order_key AND open.ended IS NULL
)
WHERE lane.rule = :rule AND lane.turn IS NOT NULL
ORDER BY lane.turn LIMIT :limit OFFSET :offset;

-- name: lease
UPDATE delivery SET
    state = 'running',
    fence = :fence,
    owner = :owner,
    claimed = :claimed,
    lease_until = :lease_until,
    lock = :lock,
    due = NULL
WHERE number = :number;

-- name: set_turn
UPDATE rule SET turn = :turn WHERE rule = :rule;

-- name: extend
UPDATE delivery SET lease_until = :until WHERE id = :id AND fence = :fence AND state = 'running';

-- name: end
UPDATE delivery SET
    state = :state,
    attempts = attempts + :counted,
    lost = lost + :lost,
    reason = :reason,
    owner = NULL,
    claimed = NULL,
    lease_until = NULL,
    lock = NULL,
    due = :due,
    ended = :ended
WHERE number = :number;

-- name: wait_anew
UPDATE delivery SET due = :now + due
    - (SELECT max(ended) FROM receipt WHERE receipt.delivery = delivery.number)
WHERE state = 'retrying'
    AND (SELECT max(ended) FROM receipt WHERE receipt.delivery = delivery.number) > :now
RETURNING rule, order_key;

-- name: end_as
UPDATE delivery SET state = :state, reason = :reason, due = NULL, ended = :ended
WHERE number = :number;

-- name: reopen
UPDATE delivery SET
    state = 'pending', attempts = 0, lost = 0, renewed = fence, reason = '', ended = NULL
WHERE number = :number;

-- name: hasten
UPDATE delivery SET due = :now WHERE number = :number;

-- name: add_receipt
INSERT INTO receipt (
    delivery, fence, attempt, owner, started, ended, verdict, reason, exit_status, signal, output,
    truncated, counted
) VALUES (
    :delivery, :fence, :attempt, :owner, :started, :ended, :verdict, :reason, :exit_status,
    :signal, :output, :truncated, :counted
);

-- name: held_by
SELECT * FROM delivery WHERE id = :id AND fence = :fence AND state = 'running';

-- name: pause
INSERT INTO pause (rule, who, at, reason) VALUES (:rule, :who, :at, :reason)
ON CONFLICT DO NOTHING;

-- name: resume
DELETE FROM pause WHERE rule = :rule;

-- name: old_deliveries
SELECT number FROM delivery WHERE ended < :before ORDER BY ended, number LIMIT :limit;

-- name: forget_receipts
DELETE FROM receipt WHERE delivery = :number;

-- name: forget_delivery
DELETE FROM delivery WHERE number = :number;

-- name: first_part
SELECT min(first) FROM delivery WHERE journal = :journal AND first < last;

-- name: oldest_events
SELECT number, sequence, certificate, received, held, nodes,
    EXISTS (
        SELECT 1 FROM delivery WHERE last = event.sequence AND delivery.journal = event.journal
    ) AS needed
FROM event WHERE journal = :journal ORDER BY sequence LIMIT :limit;

-- name: forget_event
DELETE FROM event WHERE number = :number;

-- name: forget_node
DELETE FROM node WHERE node = :node AND event = :event;

-- name: forget_certificates
DELETE FROM certificate WHERE events = 0;

-- name: set_pruned
INSERT INTO pruned (journal, sequence) VALUES (:journal, :sequence)
ON CONFLICT (journal) DO UPDATE SET sequence = excluded.sequence;

-- name: follow_journal
INSERT INTO follower (journal, instance, until) VALUES (:journal, :instance, :until)
ON CONFLICT (journal) DO UPDATE SET instance = excluded.instance, until = excluded.until
WHERE instance = excluded.instance OR until <= :now;

-- name: followed
SELECT journal FROM follower WHERE instance = :instance AND until > :now;

-- name: yield_journals
DELETE FROM follower WHERE instance = :instance;
