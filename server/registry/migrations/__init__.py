"""The schema's history. server.registry.database runs it; there is no alembic.ini.

A new revision: change server/registry/rows.py, add versions/NNNN_what.py by hand with upgrade and
downgrade, and run tests/unit/server/test_migrations.py, which compares both.
"""
