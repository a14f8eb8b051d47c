"""Rollouts, what they know of devices, and why attempts ended."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
CHANNELS = ("stable", "beta")
STATES = (
    "draft",
    "scheduled",
    "running",
    "paused-manual",
    "paused-threshold",
    "paused-soak",
    "finished",
    "aborted",
)


def upgrade() -> None:
    op.create_table(
        "rollouts",
        sa.Column("rollout_id", sa.String(32), primary_key=True),
        sa.Column(
            "model", sa.String(200), sa.ForeignKey("models.name"), nullable=False, index=True
        ),
        sa.Column("channel", _enum("channel", CHANNELS), nullable=False),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("base", sa.Integer),
        sa.Column("only_from", sa.Integer),
        sa.Column("undoes", sa.String(32), sa.ForeignKey("rollouts.rollout_id")),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("success_threshold", sa.Double, nullable=False),
        sa.Column("failure_threshold", sa.Double, nullable=False),
        sa.Column("minimum_sample", sa.Integer, nullable=False),
        sa.Column("soak_s", sa.Integer, nullable=False),
        sa.Column("attempt_timeout_s", sa.Integer, nullable=False),
        sa.Column("maximum_attempts", sa.Integer, nullable=False),
        sa.Column("maximum_in_flight", sa.Integer),
        sa.Column("windows", sa.String(400), nullable=False),
        sa.Column("metered_bytes", sa.BigInteger),
        sa.Column("monthly_bytes", sa.BigInteger),
        sa.Column("on_failure", _enum("on_failure", ("pause", "rollback")), nullable=False),
        sa.Column("state", _enum("rollout_state", STATES), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("phase", sa.Integer, nullable=False),
        sa.Column("cutoff", sa.BigInteger, nullable=False),
        sa.Column("phase_devices", sa.Integer, nullable=False),
        sa.Column("phase_already", sa.Integer, nullable=False),
        sa.Column("starts_at", TIME),
        sa.Column("entered_at", TIME),
        sa.Column("judged_since", TIME),
        sa.Column("reason", sa.String(200), nullable=False),
        *(
            sa.ForeignKeyConstraint(["model", column], ["generations.model", "generations.number"])
            for column in ("target", "base", "only_from")
        ),
        sa.UniqueConstraint("undoes"),
    )
    op.create_table(
        "rollout_phases",
        _reference("rollouts.rollout_id"),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("percent", sa.Double),
        sa.Column("devices", sa.Integer),
    )
    op.create_table(
        "rollout_groups",
        _reference("rollouts.rollout_id"),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(200), primary_key=True),
    )
    op.create_table(
        "device_settings",
        _reference("devices.device_id"),
        sa.Column("channel", _enum("channel", CHANNELS), nullable=False),
        sa.Column("monthly_bytes", sa.BigInteger),
    )
    op.create_table(
        "device_attributes",
        _reference("devices.device_id"),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )
    op.create_table(
        "device_monthly_bytes",
        _reference("devices.device_id"),
        sa.Column("month", sa.Date, primary_key=True),
        sa.Column("bytes_spent", sa.BigInteger, nullable=False),
    )
    op.add_column("attempts", sa.Column("rollout_id", sa.String(32)))
    op.add_column("attempts", sa.Column("code", sa.String(64)))
    op.create_index("ix_attempts_rollout_id", "attempts", ["rollout_id"])
    op.create_index("ix_attempts_state", "attempts", ["state"])


def downgrade() -> None:
    op.drop_index("ix_attempts_state", "attempts")
    op.drop_index("ix_attempts_rollout_id", "attempts")
    op.drop_column("attempts", "code")
    op.drop_column("attempts", "rollout_id")
    for table in (
        "device_monthly_bytes",
        "device_attributes",
        "device_settings",
        "rollout_groups",
        "rollout_phases",
        "rollouts",
    ):
        op.drop_table(table)


def _reference(target: str) -> sa.Column[str]:
    """The column of the same name in another table, here a part of the primary key."""
    name = target.rpartition(".")[2]
    return sa.Column(name, sa.String(32), sa.ForeignKey(target), primary_key=True)


def _enum(name: str, values: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)
