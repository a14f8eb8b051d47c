"""`ota-server`, a module for each group of commands; server.cli puts them together.

    rollout    `ota-server rollout ...` and `ota-server rollback`
    device     `ota-server device ...`
    operator   `ota-server operator ...`
    tls        `ota-server tls ...`
    keys       `ota-server keys ...`
    audit      `ota-server audit`
    options    what they share

A command reads what was typed, opens the home, calls one operation and prints. `init`, `serve`,
`publish` and `status` are in server.cli, `train` is in server.training.cli.
"""
