"""What fell to the eleventh attack."""

from __future__ import annotations

import pytest

from tests.sql.conftest import VICTIM, Session

JSON_OF = {
    "one": "'\"a\"'::json",
    "the next": "to_json((select min(e) from unnest(enum_range(null::tenant.mood)) e where e > $1))",
    "another": "to_json((enum_range(null::tenant.mood))[1 + floor(random() * 3)])",
}


def resent(listener: Session, most: int) -> int:
    """How many rows a resend copies; it must come to an end."""
    copied, after = 0, None
    for _ in range(10):
        ((count, after, skipped),) = listener.sql(
            "select copied, last::text, skipped from relay.resend_chunk('tenant.t', %s::json, %s, null)", after, most
        )
        assert skipped == []
        copied += count
        if after is None:
            return copied
    raise AssertionError("it has no end")


@pytest.mark.parametrize("says", JSON_OF)
@pytest.mark.parametrize("most", [1, 2])
def test_a_resend_ends_whatever_a_type_s_cast_says_of_a_key(admin, tenant, database, says, most):
    """Where to go on was read from the key as events have it, which the type's owner has said."""
    admin.sql(f"set role {VICTIM}; select relay.unwatch('victim.secret'); reset role")
    tenant.sql(f"""
        create type tenant.mood as enum ('a', 'b', 'c'); create table tenant.t (id tenant.mood primary key);
        create function tenant.said(tenant.mood) returns json language sql as $$select {JSON_OF[says]}$$;
        create cast (tenant.mood as json) with function tenant.said(tenant.mood);
        insert into tenant.t values ('a'), ('b'), ('c'); select relay.watch('tenant.t');
    """)
    assert resent(Session(database.listener()), most) == 3


def test_a_resend_ends_where_the_json_of_keys_does_not_tell_them_apart(tenant, database):
    """It went on after the same key for ever, with REQUESTS=on in the listener, whose memory it filled."""
    tenant.sql("""
        create table tenant.t (id int[] primary key); select relay.watch('tenant.t');
        insert into tenant.t values ('{1}'), ('[2:2]={1}'), ('[3:3]={1}');
    """)
    listener = Session(database.listener())
    assert resent(listener, 1) == 3
    tenant.sql("begin; select from tenant.t where id = '[2:2]={1}' for update")
    ((_, _, (skipped,)),) = listener.sql("select * from relay.resend_chunk('tenant.t', null, 10, null)")
    tenant.sql("rollback")
    assert listener.value("select relay.resend_row('tenant.t', %s::json, null)", str(skipped).replace("'", '"')) == 1


@pytest.mark.parametrize("domain", [True, False])
def test_a_key_of_jsonb_that_rows_exchange_is_not_told_as_deleted(admin, domain):
    admin.sql("create domain document as jsonb")
    admin.sql(f"""
        create table own (id {"document" if domain else "jsonb"} primary key deferrable, n int);
        select relay.watch('own'); insert into own values ('1', 1), ('{{"a": "x"}}', 2), ('"1"', 3);
    """)
    admin.story()
    admin.sql("update own set id = case n when 1 then '\"1\"' when 2 then '1' else '{\"a\": \"x\"}' end::jsonb")
    assert [op for op, _ in admin.story()] == ["insert"] * 3
