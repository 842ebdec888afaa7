"""${message}.

The first line of what changed and why; then, in store/migrations/__init__.py, add ${repr(up_revision)} to REVISIONS.
`works_with`, here and there as WORKS_WITH: the oldest revision whose code may run on what this makes. Where columns and
tables are only added, with defaults, and nothing has another meaning, it is what it was before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}
works_with = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
