"""First schema: models, blobs, generations, steps, devices, attempts, reports."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

DIGEST = sa.LargeBinary(32)
TIME = sa.DateTime(timezone=True)
ATTEMPT_STATES = ("planned", "started", "committed", "failed", "superseded")
OUTCOMES = ("started", "committed", "failed")


def upgrade() -> None:
    op.create_table("models", sa.Column("name", sa.String(200), primary_key=True))
    op.create_table(
        "blobs",
        sa.Column("sha256", DIGEST, primary_key=True),
        sa.Column("length", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "generations",
        sa.Column("model", sa.String(200), sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("parent", sa.Integer),
        sa.Column("layout_fingerprint", DIGEST, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("snapshot_sha256", DIGEST, sa.ForeignKey("blobs.sha256"), nullable=False),
        sa.Column("graph_sha256", DIGEST, sa.ForeignKey("blobs.sha256")),
        sa.Column("card_sha256", DIGEST, sa.ForeignKey("blobs.sha256")),
        sa.Column("published_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["model", "parent"], ["generations.model", "generations.number"]),
    )
    op.create_table(
        "steps",
        sa.Column("step_id", sa.Integer, primary_key=True),
        sa.Column("model", sa.String(200), sa.ForeignKey("models.name"), nullable=False),
        sa.Column("base", sa.Integer),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("diff_sha256", DIGEST, sa.ForeignKey("blobs.sha256"), nullable=False),
        sa.ForeignKeyConstraint(["model", "base"], ["generations.model", "generations.number"]),
        sa.ForeignKeyConstraint(["model", "target"], ["generations.model", "generations.number"]),
        sa.UniqueConstraint("model", "target", "diff_sha256"),
    )
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(32), primary_key=True),
        sa.Column(
            "model", sa.String(200), sa.ForeignKey("models.name"), nullable=False, index=True
        ),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("enrolled_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("installed", sa.Integer),
        sa.ForeignKeyConstraint(
            ["model", "installed"], ["generations.model", "generations.number"]
        ),
    )
    op.create_table(
        "attempts",
        sa.Column("attempt_id", sa.String(32), primary_key=True),
        sa.Column(
            "device_id",
            sa.String(32),
            sa.ForeignKey("devices.device_id"),
            nullable=False,
            index=True,
        ),
        sa.Column("base", sa.Integer),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("state", _enum("attempt_state", ATTEMPT_STATES), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
    )
    op.create_table(
        "reports",
        sa.Column(
            "attempt_id", sa.String(32), sa.ForeignKey("attempts.attempt_id"), primary_key=True
        ),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("outcome", _enum("outcome", OUTCOMES), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger, nullable=False),
        sa.Column("bytes_received", sa.BigInteger, nullable=False),
        sa.Column("apply_ms", sa.BigInteger, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
    )


def downgrade() -> None:
    for table in ("reports", "attempts", "devices", "steps", "generations", "blobs", "models"):
        op.drop_table(table)


def _enum(name: str, values: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)
