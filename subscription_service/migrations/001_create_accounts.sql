-- The row of a learner is also their lock: whoever changes anything of a learner's locks it first.
CREATE TABLE accounts (
    user_id text NOT NULL,
    email text NOT NULL,
    display_name text NOT NULL,
    email_verified boolean NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_once PRIMARY KEY (user_id),
    CONSTRAINT accounts_active_or_inactive CHECK (status IN ('active', 'inactive'))
);

-- A catalog (not keyed by the learner): an e-mail address belongs to one account in the whole system, whatever
-- its case. Distributed by user_id, a unique index on accounts could not promise that.
CREATE TABLE account_emails (
    email_key text NOT NULL,
    user_id text NOT NULL,
    CONSTRAINT account_emails_one_account_per_email PRIMARY KEY (email_key),
    CONSTRAINT account_emails_one_email_per_account UNIQUE (user_id),
    CONSTRAINT account_emails_lower_case CHECK (email_key = lower(email_key))
);
