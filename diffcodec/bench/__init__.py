"""The codec beside its peers: one piece of work, coded by everyone in turns, as a table.

`diffcodec bench` is the command. A peer that is not installed is skipped and named. Nothing else
in the package imports this one; benchmarks/ builds on it.

    generations  what to code: a base and a delta, trained or made up
    work         the same levels for everyone, in the forms that coders want
    ours, peers, nncodec  the coders, behind the Protocol of peers.Peer
    timing, results, compare, table, cli  turns, values, the comparison, print, command
"""
