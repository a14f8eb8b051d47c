"""What one server takes of its callers, and when it says no.

Settings are values (settings); buckets decide on rates (rates, without a clock of their own); the
guard is what stands before every method and asks whether a request is well-formed (rules), and
whether there is room for it. Each server has its own counts: two servers let twice as much in.
"""
