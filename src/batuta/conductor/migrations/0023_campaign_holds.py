"""Holds of campaigns; the pause of a campaign is one, which ends as the campaign is resumed."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

HELD = "state = 'held'"
NOT_HELD_BY_A_HOLD = (
    "state = 'held' AND (held_by IS NULL OR held_by IN "
    "(SELECT number FROM conductor_holds WHERE ended IS NOT NULL))"
)


def upgrade() -> None:
    op.add_column("conductor_holds", sa.Column("campaign", sa.Integer()))
    op.add_column(
        "conductor_holds",
        sa.Column("pause", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.drop_index("conductor_held", "conductor_processings")
    op.create_index(
        "conductor_held",
        "conductor_processings",
        ["work_class", "provider", "product", "campaign", "obs_id"],
        sqlite_where=sa.text(HELD),
        postgresql_where=sa.text(HELD),
    )
    _record_pauses(op.get_bind())


def _record_pauses(connection: sa.Connection) -> None:
    paused = connection.execute(
        sa.text("SELECT number, reason, started FROM conductor_campaigns WHERE state = 'paused'")
    ).all()
    for number, reason, started in paused:
        values = {"campaign": number, "reason": reason, "at": started}
        connection.execute(
            sa.text(
                "INSERT INTO conductor_holds (campaign, pause, begins, placed, by, reason, applied)"
                " VALUES (:campaign, :pause, :at, :at, 'operator', :reason, :applied)"
            ),
            {**values, "pause": True, "applied": True},
        )
        connection.execute(
            sa.text(
                "UPDATE conductor_processings SET held_by = (SELECT number FROM conductor_holds"  # noqa: S608  constants
                f" WHERE pause AND campaign = :campaign) WHERE campaign = :campaign"
                f" AND {NOT_HELD_BY_A_HOLD}"
            ),
            {"campaign": number},
        )
    # What an earlier hold had kept back was not let go when its campaign was resumed.
    op.execute(
        f"UPDATE conductor_processings SET state = 'waiting' WHERE {NOT_HELD_BY_A_HOLD}"  # noqa: S608  constants
    )
