"""Keys of devices, settings of a fleet, operators, audit; devices can be decommissioned."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DIGEST = sa.LargeBinary(32)
TIME = sa.DateTime(timezone=True)
KEY_STATES = ("preauthorized", "pending", "accepted", "rejected", "revoked")
ACCEPTED = sa.text("state = 'accepted'")


def upgrade() -> None:
    op.create_table(
        "device_keys",
        sa.Column("key_sha256", DIGEST, primary_key=True),
        sa.Column("device_id", sa.String(32), index=True),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                *KEY_STATES,
                name="key_state",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("decided_at", TIME),
    )
    op.create_index(
        "uq_device_keys_accepted",
        "device_keys",
        ["device_id"],
        unique=True,
        sqlite_where=ACCEPTED,
        postgresql_where=ACCEPTED,
    )
    op.create_table(
        "fleet_settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )
    op.create_table(
        "operators",
        sa.Column("key_sha256", DIGEST, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, index=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("removed_at", TIME),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at", TIME, nullable=False, index=True),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    with op.batch_alter_table("devices") as devices:
        devices.add_column(sa.Column("decommissioned_at", TIME))


def downgrade() -> None:
    op.drop_column("devices", "decommissioned_at")
    for table in ("audit", "operators", "fleet_settings", "device_keys"):
        op.drop_table(table)
