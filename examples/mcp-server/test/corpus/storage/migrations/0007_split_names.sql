-- One column for the full name becomes two.
begin;
alter table people add column given_name text, add column family_name text;
update people
set given_name = split_part(full_name, ' ', 1),
    family_name = substr(full_name, length(split_part(full_name, ' ', 1)) + 2);
alter table people drop column full_name;
commit;
