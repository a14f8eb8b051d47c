"""What an operator sees of a server: metrics, log lines, whether it is ready.

Nothing here decides anything, and nothing that is shown names a secret. The log lines of a call
carry what is noted of it (fields), whoever writes them.
"""
