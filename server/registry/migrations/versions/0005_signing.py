"""Signed metadata, and manifests of generations."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DIGEST = sa.LargeBinary(32)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "metadata",
        sa.Column("role", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("replaces", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.UniqueConstraint("role", "replaces"),
    )
    op.create_table(
        "manifests",
        sa.Column("model", sa.String(200), sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("manifest_sha256", DIGEST, sa.ForeignKey("blobs.sha256"), nullable=False),
        sa.Column("revoked_at", TIME),
        sa.ForeignKeyConstraint(
            ["model", "generation"], ["generations.model", "generations.number"]
        ),
    )
    op.create_table(
        "manifest_diffs",
        sa.Column("model", sa.String(200), sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("diff_sha256", DIGEST, primary_key=True),
        sa.ForeignKeyConstraint(
            ["model", "generation"], ["manifests.model", "manifests.generation"]
        ),
    )


def downgrade() -> None:
    op.drop_table("manifest_diffs")
    op.drop_table("manifests")
    op.drop_table("metadata")
