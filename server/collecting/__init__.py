"""The server's disk stays bounded: what no rollout and no device needs is deleted.

`needs` says what is needed, `verdict` what is deleted therefore; both are pure. `collection` does
it: rows first, files second, so that a crash leaves files without a name, which the next
collection takes.

    >>> collect(home, utc_now(), dry_run=True).freed_bytes
"""
