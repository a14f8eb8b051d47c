"""Rollouts: a generation reaches a fleet in phases, and stops by itself where it fails.

A rollout is
    rollout      frozen values: a rollout, its phases, its policy, what its devices did
    states       the states of a rollout and the table of its transitions
    changes      the values that a transition leads to (pure)
    notation     percentages, durations, hours and groups, as people write them (pure)

A device checks in
    assignment   which generation it should run (pure)
    population   which devices a rollout is for, and which of them a phase reaches (pure)
    conditions   why it must wait all the same: hours, metered links, bytes (pure)
    pacing       when it should come again (pure, but for the randomness passed in)

A rollout goes on
    operations   what operators do: create, start, pause, resume, abort
    ticking      what servers do by themselves, every one of them: start, advance, pause, end, undo
    evaluation   what should become of a rollout now (pure)
    undoing      a generation that carries old weights
    report, watching   how far it is, for people and programs, once and until it has ended
    outlook      what it waits for next (pure)

Not for: the rows, which are in server.registry.rollouts, nor the commands, in server.commands. A
rollout is changed only by compare-and-swap of its version, so any number of servers may tick over
one database.
"""
