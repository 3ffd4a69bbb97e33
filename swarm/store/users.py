"""The weights of the users of a service; part of :class:`~swarm.store.Store`.

Their table is made when the first weight is set: a store without it is one in which every user has weight 1. So no
earlier version is kept from a store on account of it.
"""

from __future__ import annotations

import sqlalchemy as sa

_tables = sa.MetaData()
_users = sa.Table(
    "swarm_users",
    _tables,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("weight", sa.Double, nullable=False),
)


def weights(connection: sa.Connection) -> dict[str, float]:
    """The weights that are not 1, by the user's name."""
    if not sa.inspect(connection).has_table(_users.name):
        return {}
    rows = connection.execute(sa.select(_users.c.name, _users.c.weight).order_by(_users.c.name))
    return {name: float(weight) for name, weight in rows}


def set_weight(connection: sa.Connection, user: str, weight: float) -> None:
    """Note a user's weight; 1 is that of a user of whom nothing is noted."""
    _tables.create_all(connection)
    connection.execute(_users.delete().where(_users.c.name == user))
    if weight != 1.0:
        connection.execute(_users.insert(), {"name": user, "weight": weight})
