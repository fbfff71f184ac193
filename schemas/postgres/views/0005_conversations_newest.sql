-- The list of an account's conversations, newest first. Nothing is read in the order of the older index, which every
-- message had to rewrite.
create index conversations_newest on conversations (account_id, created_at desc, id desc);
drop index conversations_by_account;
