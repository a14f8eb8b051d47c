"""The schema's history. server.registry.database runs it; there is no alembic.ini.

A new revision: change the rows (server/registry/*rows.py), add versions/NNNN_what.py by hand with
upgrade and downgrade, and run tests/contracts/test_migrations.py, which compares both.
"""
