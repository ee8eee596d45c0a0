-- The relay's tables in an application's SQLite file, 3.38 or newer. Again with a newer release; events stay.
--     sqlite3 /path/to/the.db < sql/sqlite/install.sql
-- Then: listen.py watch TABLE. docs/sources.md tells the rest; relay_outbox's columns are those of sql/mariadb/install.sql.
create table if not exists relay_outbox (
    seq integer primary key autoincrement,
    id text not null default (lower(
        hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a'
        || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
    at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    topic text not null,
    tbl text,
    op text not null,
    key text,
    old_image text,
    new_image text,
    body text,
    headers text,
    too_large integer not null default 0,
    error text
);

create table if not exists relay_listener (
    id integer primary key check (id = 1),
    version integer not null,
    install text not null,
    turn integer not null default 0
);
insert or ignore into relay_listener values (1, 1, lower(hex(randomblob(16))), 0);

create table if not exists relay_watched (
    tbl text primary key,
    topic text not null,
    options text not null,
    hash text not null
);

-- Rows that a statement is about to replace: SQLite tells of them only where recursive_triggers is on.
create table if not exists relay_replaced (
    tbl text not null,
    row integer,
    key text,
    image text
);
