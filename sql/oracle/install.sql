-- NOT RUN BY US. The relay's tables for Oracle 19 or newer, and a trigger to start from (trigger.sql beside this file).
-- Written by Oracle's documentation; whoever runs it, please tell what had to be changed.
--     create user relay identified by "..." quota unlimited on users;   then as that user, in SQL*Plus:
--     @install.sql
-- The numbers are without a cache and in order, so that a row's events have theirs in the order of its changes. The
-- listener is told fetch_lobs = False: a CLOB comes as text.
create table outbox (
    seq number(19) generated always as identity (nocache order) primary key,
    id varchar2(36) default lower(regexp_replace(rawtohex(sys_guid()), '(.{8})(.{4})(.{4})(.{4})(.{12})', '\1-\2-\3-\4-\5')) not null,
    at timestamp(6) default sys_extract_utc(systimestamp) not null,
    topic varchar2(255) not null,
    tbl varchar2(255),
    op varchar2(20) not null,
    key clob,
    old_image clob,
    new_image clob,
    body clob,
    headers clob,
    too_large number(1) default 0 not null,
    error clob
);

create table listener (
    id number(1) default 1 primary key check (id = 1),
    version number(9) not null,
    install varchar2(36) not null,
    turn number(19) default 0 not null
);
insert into listener (version, install) values (1, lower(rawtohex(sys_guid())));
commit;

-- An application's own events: begin relay.publish_event(:id, :topic, :payload, :event_key, :headers); end;
create or replace procedure publish_event(
    event_id varchar2, topic varchar2, payload clob, event_key varchar2 default null, headers varchar2 default null
) authid definer as
    is_fit number(1);
begin
    select case when payload is json then 1 else 0 end into is_fit from dual;
    if is_fit = 0 then
        raise_application_error(-20001, 'relay.publish_event: the payload is not JSON');
    end if;
    insert into outbox (id, topic, op, key, body, headers) values (event_id, topic, 'message', event_key, payload, headers);
end;
/
