"""A shop of nine tables: its schema, its rows in the worst order, random changes. Rows stay in Python as well."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from psycopg2.extras import execute_values

from dev.database import Connection, Database

Row = dict[str, Any]
SCHEMA = """
create table tags (id int primary key, name text not null, name_de text);
create table categories (id int primary key, name text not null, parent int);
create table taxes (id int primary key, name text not null, amount numeric(6,3) not null);
create table products (id int primary key, code text, name text not null, name_de text, price numeric(10,2),
                       category int, taxes int[], image bytea);
create table customers (id int primary key, name text not null, email text, city text, country text, parent int,
                        tags int[]);
create table accounts (id int primary key, number text not null, customer int not null);
create table documents (id int primary key, name text not null, content bytea, customer int not null);
create table orders (id int primary key, customer int not null, reference text, state text, line_count int);
create table order_lines (id int primary key, order_id int not null, product int not null, quantity numeric(8,2),
                          price numeric(10,2), label text)
"""
WORST = ("order_lines", "orders", "documents", "accounts", "customers", "products", "taxes", "categories", "tags")
SHARES = {  # of 1,000 rows
    "tags": 5, "categories": 20, "taxes": 2, "products": 120, "customers": 200, "accounts": 50, "documents": 13,
    "orders": 190, "order_lines": 400,
}  # fmt: skip
COUNTRIES = ("AT", "DE", "FR", "US", None)


def picture(number: int) -> bytes:
    """A PNG of one pixel, of its own colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixel = zlib.compress(b"\0" + number.to_bytes(3, "big"))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


class Shop:
    """The rows, by table and key, in a database that the caller has made.

    Args:
        size: rows in all.
        seed: what the rows and the changes come from.
    """

    def __init__(self, connection: Connection, size: int, seed: int = 1) -> None:
        self._connection = connection
        self._rng = random.Random(seed)
        self._next = dict.fromkeys(SHARES, 1)
        self.rows: dict[str, dict[int, Row]] = {name: {} for name in SHARES}
        self._counts = {name: max(2, size * share // 1000) for name, share in SHARES.items()}
        self._sql: list[tuple[str, list[Any]]] = []
        for name in reversed(WORST):
            for _ in range(self._counts[name]):
                self._new(name)
        self._sql.clear()

    def create(self) -> None:
        """The empty tables, watched."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(SCHEMA)
            for name in WORST:
                cursor.execute("select relay.watch(%s)", [f"public.{name}"])
                cursor.execute(f"grant select, update on {name} to {Database.LISTENER}")  # what resend needs

    def fill(self) -> None:
        """Insert all rows: lines before orders before customers, children before their parents."""
        for name in WORST:
            rows = sorted(self.rows[name].values(), key=lambda row: -row["id"])
            for at in range(0, len(rows), 500):
                with self._connection, self._connection.cursor() as cursor:
                    some = [list(row.values()) for row in rows[at : at + 500]]
                    execute_values(cursor, f"insert into {name} values %s", some)

    def change(self, count: int) -> None:
        """So many random changes, up to 20 a transaction."""
        while count > 0:
            for _ in range(min(count, self._rng.randint(1, 20))):
                self._rng.choices(CHANGES, [weight for _, weight in WEIGHTS])[0](self)
                count -= 1
            with self._connection, self._connection.cursor() as cursor:
                for statement, values in self._sql:
                    cursor.execute(statement, values)
            self._sql.clear()

    def _any(self, table: str) -> Row:
        return self.rows[table][self._rng.choice(list(self.rows[table]))]

    def _key(self, table: str) -> int:
        return int(self._any(table)["id"])

    def _some(self, table: str, most: int) -> list[int]:
        return sorted({self._key(table) for _ in range(self._rng.randint(0, most))})

    def _new(self, table: str, **given: Any) -> Row:
        """One more row."""
        key = self._next[table]
        self._next[table] += 1
        row = {"id": key, **FIELDS[table](self, key), **given}
        self.rows[table][key] = row
        marks = ", ".join(["%s"] * len(row))
        self._sql.append((f"insert into {table} values ({marks})", list(row.values())))
        if table == "order_lines":
            owner = self.rows["orders"][row["order_id"]]
            self._update("orders", owner, line_count=owner["line_count"] + 1)
        return row

    def _update(self, table: str, row: Row, **changes: Any) -> None:
        row.update(changes)
        sets = ", ".join(f"{name} = %s" for name in changes)
        self._sql.append((f"update {table} set {sets} where id = %s", [*changes.values(), row["id"]]))

    def _delete(self, table: str, key: int) -> None:
        del self.rows[table][key]
        self._sql.append((f"delete from {table} where id = %s", [key]))

    def _word(self) -> str:
        return f"Ä{self._rng.randrange(10**6)} \u2019n"

    def _price(self) -> float:
        return self._rng.randrange(1, 10**5) / 100

    def _image(self) -> bytes | None:
        return picture(self._rng.randrange(1 << 24)) if self._rng.random() < 0.1 else None

    def new_order(self) -> None:
        """An order with its lines."""
        order = self._new("orders", state="draft")
        for _ in range(self._rng.randint(1, 4)):
            self._new("order_lines", order_id=order["id"])
        if self._rng.random() < 0.7:
            self._update("orders", order, state="confirmed")

    def confirm(self) -> None:
        self._update("orders", self._any("orders"), state="confirmed")

    def delete_order(self) -> None:
        order = self._key("orders")
        for key in [row["id"] for row in self.rows["order_lines"].values() if row["order_id"] == order]:
            self._delete("order_lines", key)
        self._delete("orders", order)

    def delete_line(self) -> None:
        line = self._any("order_lines")
        owner = self.rows["orders"][line["order_id"]]
        self._update("orders", owner, line_count=owner["line_count"] - 1)
        self._delete("order_lines", line["id"])

    def delete_one(self) -> None:
        """An account or a document."""
        table = self._rng.choice(["accounts", "documents"])
        if len(self.rows[table]) > 1:
            self._delete(table, self._key(table))

    def again(self, table: str, *columns: str) -> None:
        """New values for some columns of a row."""
        row = self._any(table)
        fresh = FIELDS[table](self, row["id"])
        self._update(table, row, **{name: fresh[name] for name in columns})


FIELDS: Mapping[str, Callable[[Shop, int], Row]] = {
    "tags": lambda shop, key: {"name": f"Tag {key} {shop._word()}", "name_de": f"Marke {key} {shop._word()}"},
    "categories": lambda shop, key: {
        "name": f"Category {key} {shop._word()}",
        "parent": None if key < 4 else shop._rng.randrange(1, key),
    },
    "taxes": lambda shop, key: {"name": f"Tax {key}", "amount": shop._rng.randrange(1, 25_000) / 1000},
    "products": lambda shop, key: {
        "code": f"P{key:06}", "name": f"Product {shop._word()}", "name_de": f"Ware {shop._word()}",
        "price": shop._price(), "category": shop._key("categories"), "taxes": shop._some("taxes", 2),
        "image": shop._image(),
    },
    "customers": lambda shop, key: {
        "name": f"Customer {shop._word()}", "email": f"c{key}@example.com" if key % 3 else None,
        "city": shop._word(), "country": shop._rng.choice(COUNTRIES),
        "parent": shop._rng.randrange(1, key) if key > 3 and shop._rng.random() < 0.3 else None,
        "tags": shop._some("tags", 3),
    },
    "accounts": lambda shop, key: {"number": f"X{key:08}", "customer": shop._key("customers")},
    "documents": lambda shop, key: {
        "name": f"Document {key}", "content": shop._word().encode(), "customer": shop._key("customers"),
    },
    "orders": lambda shop, _key: {
        "customer": shop._key("customers"), "reference": shop._word(),
        "state": shop._rng.choice(["draft", "confirmed", "confirmed"]), "line_count": 0,
    },
    "order_lines": lambda shop, _key: {
        "order_id": shop._key("orders"), "product": shop._key("products"),
        "quantity": shop._rng.randrange(1, 1000) / 4, "price": shop._price(), "label": f"Line {shop._word()}",
    },
}  # fmt: skip
WEIGHTS: tuple[tuple[Callable[[Shop], None], int], ...] = (
    (lambda shop: shop.again("order_lines", "quantity", "price", "label"), 25),
    (lambda shop: shop.again("products", "name", "name_de", "price", "taxes", "image"), 12),
    (lambda shop: shop.again("customers", "name", "city", "country", "tags"), 20),
    (lambda shop: shop.again("orders", "reference"), 10),
    (lambda shop: shop.again("tags", "name", "name_de"), 2),
    (lambda shop: shop.again("categories", "name"), 2),
    (lambda shop: shop.again("documents", "content"), 2),
    (lambda shop: shop._new("customers") and None, 6),
    (lambda shop: shop._new("products") and None, 3),
    (lambda shop: shop._new("accounts") and None, 2),
    (Shop.new_order, 5),
    (Shop.confirm, 5),
    (Shop.delete_line, 3),
    (Shop.delete_order, 1),
    (Shop.delete_one, 2),
)
CHANGES = [made for made, _ in WEIGHTS]
