"""Who vouches for what: TUF metadata (python-tuf), one key a role.

    offline   root      says which key signs for which role; rotates and revokes keys
              targets   says whose key signs releases, and for which models
    releases  releases  has a list of manifests for each model: what a publisher needs
    online    snapshot  lists the versions of all of it
              timestamp says that the snapshot is the newest, for a day
              routes    lists diffs that the server made later (docs/adr/0011)

`keyring` holds private keys, `documents` writes metadata (pure), `releasing` signs generations,
`online` keeps a server's metadata fresh, `ceremonies` needs the offline keys.

Not for: verifying anything; that is the device's part (edge_client.trust).
"""
