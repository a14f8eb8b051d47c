"""From two sets of parameters to a diff: what travels, at which levels, within how many bytes.

A server's work; a device never imports it.
"""
