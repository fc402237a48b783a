"""All targets, by name."""

from fuzz import dialogue, journal, trust, wire

TARGETS = {
    target.name: target
    for target in (*wire.TARGETS, *trust.TARGETS, *dialogue.TARGETS, *journal.TARGETS)
}
