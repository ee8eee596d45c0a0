-- The relay's database on MariaDB 10.6 or newer. Run it as an administrator, again with a newer release; events stay.
--     mariadb -u root -p < sql/mariadb/install.sql
-- Then, for the listener:
--     create user relay_listen@'%' identified by '...';
--     grant relay_listener to relay_listen@'%'; set default role relay_listener for relay_listen@'%';
-- and for an application that calls relay.publish, the same with role relay_publisher. Who only writes to watched tables
-- needs nothing. docs/sources.md tells the rest.
set names utf8mb4;
set sql_mode = 'STRICT_ALL_TABLES';

delimiter ;;
begin not atomic
    declare present int default 0;
    if version() not like '%mariadb%' or cast(regexp_substr(version(), '^[0-9]+') as int) * 100
        + cast(regexp_substr(version(), '(?<=\\.)[0-9]+') as int) < 1006
    then
        signal sqlstate '45000' set message_text = 'relay: MariaDB 10.6 or newer is needed; docs/sources.md has the others';
    end if;
    if exists (select 1 from information_schema.tables where table_schema = 'relay' and table_name = 'listener') then
        execute immediate 'select version into @relay_version from relay.listener';
        if @relay_version > 1 then
            signal sqlstate '45000' set message_text = 'relay: a newer release is installed here; take its install.sql';
        end if;
    end if;
end;;
delimiter ;

create database if not exists relay character set utf8mb4 collate utf8mb4_bin;

-- The owner of triggers and procedures. Nobody logs in as it.
create user if not exists relay_owner@localhost identified via unix_socket account lock;
create role if not exists relay_listener;
create role if not exists relay_publisher;

-- What the broker has not confirmed yet. seq is the order of the events of a key; it is no identity, since AUTO_INCREMENT
-- may go back after a crash: seq and id together are.
create table if not exists relay.outbox (
    seq bigint unsigned not null auto_increment primary key,
    id char(36) character set ascii collate ascii_bin not null default uuid(),
    at datetime(6) not null default utc_timestamp(6) comment 'UTC',
    topic varchar(255) not null comment 'routing key',
    tbl varchar(255) comment 'database.table; null: of relay.publish',
    op varchar(20) not null comment 'insert, update, delete, snapshot; message: of relay.publish',
    `key` longtext comment 'JSON of the key columns; of relay.publish any text; null: no order',
    old_image longtext comment 'JSON of the row before',
    new_image longtext comment 'JSON of the row after',
    body longtext comment 'of relay.publish: JSON, the whole message',
    headers longtext comment 'of relay.publish: a JSON object',
    too_large tinyint not null default 0 comment '1: no images, the row is too large for JSON here',
    error text comment 'why the broker refused it; its key waits'
) engine = InnoDB row_format = dynamic;

create table if not exists relay.listener (
    id tinyint not null primary key default 1 check (id = 1),
    version int not null,
    install char(36) not null default uuid(),
    turn bigint not null default 0 comment 'of the listener: which one is at work'
) engine = InnoDB;
insert into relay.listener (id, version) values (1, 1) on duplicate key update version = 1;

create table if not exists relay.watched (
    table_schema varchar(64) not null,
    table_name varchar(64) not null,
    tbl varchar(255) not null comment 'as its events name it',
    topic varchar(255) not null,
    options longtext not null comment 'JSON: what listen.py watch was told',
    hash char(64) not null comment 'SHA-256 of the triggers',
    primary key (table_schema, table_name)
) engine = InnoDB;

create or replace sql security invoker view relay.pending as
    select topic, count(*) as events, min(at) as oldest, count(error) as errors from relay.outbox group by topic;

delimiter ;;

-- relay.write_event(topic, tbl, op, event_key, old_image, new_image, too_large)
-- What triggers call that listen.py watch --lock-tables has made.
create or replace definer = relay_owner@localhost procedure relay.write_event(
    topic varchar(255), tbl varchar(255), op varchar(20), event_key longtext, old_image longtext, new_image longtext,
    too_large bool
)
sql security invoker
    insert into relay.outbox (topic, tbl, op, `key`, old_image, new_image, too_large)
    values (topic, tbl, op, event_key, old_image, new_image, too_large)
    on duplicate key update op = repeat('-', 21);;

-- relay.publish_event(id, topic, payload, event_key, headers)
-- relay.publish with an id of the caller's, a uuid; no result set.
create or replace definer = relay_owner@localhost procedure relay.publish_event(
    id char(36), topic text, payload longtext, event_key longtext, headers longtext
)
sql security definer
begin
    declare problem text default null;
    if id is null or id not regexp '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        set problem = 'relay.publish_event: the id must be a uuid in small letters';
    elseif topic is null or topic = '' or octet_length(topic) > 255 then
        set problem = 'relay.publish: a topic has 1 to 255 bytes';
    elseif payload is null or not json_valid(payload) then
        set problem = 'relay.publish: the payload is not JSON, or deeper than MariaDB reads (plain text: json_quote(...))';
    elseif headers is not null and (not json_valid(headers) or json_type(headers) <> 'OBJECT') then
        set problem = 'relay.publish: headers must be a JSON object, for example {"source": "shop"}';
    elseif octet_length(headers) > 262144 then
        set problem = 'relay.publish: the headers are larger than 256 KiB (RabbitMQ takes 128 kB)';
    end if;
    if problem is not null then
        signal sqlstate '45000' set message_text = problem;
    end if;
    insert into relay.outbox (id, topic, op, `key`, body, headers) values (id, topic, 'message', event_key, payload, headers);
end;;

-- relay.publish(topic, payload, event_key, headers) -> one row with the event's id
-- Puts an application's own event into the outbox, in the caller's transaction: it is published if that commits.
--   topic      routing key
--   payload    JSON text; it becomes the message's body as it is
--   event_key  events with the same key are delivered in order; null: no order
--   headers    a JSON object of extra message headers, or null
--     call relay.publish('shop.paid', '{"order": 42, "total": 10.50}', 'order 42', null);
create or replace definer = relay_owner@localhost procedure relay.publish(
    topic text, payload longtext, event_key longtext, headers longtext
)
sql security definer
begin
    declare event char(36) default uuid();
    call relay.publish_event(event, topic, payload, event_key, headers);
    select event as id;
end;;

-- relay.table_triggers() -> a row a trigger of ours
-- For listen.py check and status, which compare them with the tables: the listener has no right to see them itself.
create or replace definer = relay_owner@localhost procedure relay.table_triggers()
sql security definer reads sql data
    select event_object_schema, event_object_table, trigger_name, event_manipulation, action_statement, sql_mode
    from information_schema.triggers where trigger_name like 'relay\_%' order by 1, 2, 3;;

delimiter ;

grant select, insert, update on relay.outbox to relay_owner@localhost;  -- "on duplicate key update" asks for all three
grant execute on relay.* to relay_owner@localhost;
grant select, insert, update (error), delete on relay.outbox to relay_listener;
grant select, update (turn) on relay.listener to relay_listener;
grant select on relay.watched to relay_listener;
grant select on relay.pending to relay_listener;
grant execute on procedure relay.table_triggers to relay_listener;
grant execute on procedure relay.publish to relay_publisher;
grant execute on procedure relay.publish_event to relay_publisher;

select concat('relay: version 1 is installed; ', (select count(*) from relay.watched), ' tables are watched, ',
    (select count(*) from relay.outbox), ' events wait. Next: listen.py watch DATABASE.TABLE') as relay;
