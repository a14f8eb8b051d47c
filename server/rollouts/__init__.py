"""Rollouts: a generation reaches a fleet in phases, and stops by itself where it fails.

    states       the states of a rollout and the table of its transitions
    rollout      frozen values: a rollout, its phases, its policy, what its devices did
    population   which devices a rollout is for, and which of them a phase reaches (pure)
    evaluation   what should become of a rollout now (pure)
    outlook      what a rollout waits for next (pure)
    assignment   which generation a device should run (pure)
    conditions   why a device must wait all the same: hours, metered links, bytes (pure)
    pacing       when a device should come again (pure, but for the randomness passed in)
    changes      the values that a transition leads to (pure)
    operations   what operators do: create, start, pause, resume, abort
    ticking      what servers do by themselves, every one of them: start, advance, pause, end, undo
    undoing      a generation that carries old weights
    report, watching   a rollout as people and programs see it, once and until it has ended
    cli, device_cli   `ota-server rollout ...` and `ota-server device set`

Not for: the rows, which are in server.registry.rollouts. A rollout is changed only by
compare-and-swap of its version, so any number of servers may tick over one database.
"""
