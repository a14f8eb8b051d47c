"""The codec beside its peers: one piece of work, coded by everyone in turns, as a table.

`diffcodec bench` is the command. A peer that is not installed is skipped and named. Nothing else
in the package imports this one; benchmarks/ builds on it.

    generations, rnnt               what to code: a base and a delta, trained or made up
    work                            the same levels for everyone, in the forms that coders want
    peer                            what a coder must offer to be compared
    ours, of_files, of_levels, nncodec   the coders; peers lists them
    timing, results, compare, memory, table, cli   turns, values, the comparison, print, command
"""
