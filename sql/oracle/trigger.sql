-- NOT RUN BY US. A trigger for one table of Oracle, to be adapted by hand: shop.orders with the columns id, total, name.
-- Its owner needs insert on relay.outbox. In the manner of what listen.py watch writes for MariaDB:
--   returning clob    else JSON_OBJECT is a varchar2(4000), and a longer row makes the writer's statement fail
--   absent on null    is not what we want: null on null is JSON_OBJECT's default
--   dates             as ISO 8601, a timestamp with time zone in UTC with its offset; raw and blob in hex behind \x
--   an update that changes the key is a delete of the old key and an insert of the new one
--   direct path loads are refused by Oracle while it is enabled; cascades of foreign keys fire it, TRUNCATE does not
create or replace trigger shop.relay_orders
after insert or update or delete on shop.orders for each row
declare
    procedure event(op varchar2, id number, was clob, is_ clob) is
    begin
        insert into relay.outbox (topic, tbl, op, key, old_image, new_image)
        values ('shop.orders', 'shop.orders', op, json_object('id' value id), was, is_);
    end;
    function image(id number, total number, name varchar2) return clob is
        made clob;
    begin
        select json_object('id' value id, 'total' value total, 'name' value name returning clob) into made from dual;
        return made;
    end;
begin
    if inserting then
        event('insert', :new.id, null, image(:new.id, :new.total, :new.name));
    elsif deleting then
        event('delete', :old.id, image(:old.id, :old.total, :old.name), null);
    elsif :old.id <> :new.id then
        event('delete', :old.id, image(:old.id, :old.total, :old.name), null);
        event('insert', :new.id, null, image(:new.id, :new.total, :new.name));
    elsif dbms_lob.compare(image(:old.id, :old.total, :old.name), image(:new.id, :new.total, :new.name)) <> 0 then
        event('update', :new.id, image(:old.id, :old.total, :old.name), image(:new.id, :new.total, :new.name));
    end if;
end;
/
