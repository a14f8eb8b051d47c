"""Which coders a device must decode to take a step. Until now `fast` was the only one."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default is for the rows that are there; a new one says what it needs.
    with op.batch_alter_table("steps") as steps:
        steps.add_column(sa.Column("coders", sa.String(64), nullable=False, server_default="fast"))
    with op.batch_alter_table("steps") as steps:
        steps.alter_column("coders", server_default=None)


def downgrade() -> None:
    # An older server would offer these to any device. Each has a twin by `fast`.
    op.execute("DELETE FROM steps WHERE coders NOT IN ('', 'fast')")
    op.drop_column("steps", "coders")
