"""Blobs that are collected, numbers of steps that never come back, roll-ups by servers."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("blobs", sa.Column("collected_at", TIME))
    # Without it SQLite would give the number of a step that is gone to the next one.
    _copy_steps({"sqlite_autoincrement": True})
    op.create_table(
        "roll_ups",
        sa.Column("model", sa.String(200), sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("base", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("target", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("files", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["model", "base"], ["generations.model", "generations.number"]),
        sa.ForeignKeyConstraint(["model", "target"], ["generations.model", "generations.number"]),
    )


def downgrade() -> None:
    op.drop_table("roll_ups")
    _copy_steps({})
    op.drop_column("blobs", "collected_at")


def _copy_steps(keywords: dict[str, bool]) -> None:
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("steps", recreate="always", table_kwargs=keywords):
            pass
