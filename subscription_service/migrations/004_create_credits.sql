-- What a learner's ledger sums to. `held` is reserved by open holds and still part of the balance. `entries`
-- numbers the ledger; `month_granted` is how much of its plan's credits the learner got for `month`.
CREATE TABLE credit_balances (
    user_id text NOT NULL,
    balance integer NOT NULL,
    held integer NOT NULL,
    entries integer NOT NULL,
    month date NOT NULL,
    month_granted integer NOT NULL,
    CONSTRAINT credit_balances_one_per_account PRIMARY KEY (user_id),
    CONSTRAINT credit_balances_of_an_account FOREIGN KEY (user_id) REFERENCES accounts (user_id),
    CONSTRAINT credit_balances_balance_not_negative CHECK (balance >= 0),
    CONSTRAINT credit_balances_held_not_negative CHECK (held >= 0),
    CONSTRAINT credit_balances_held_is_covered CHECK (held <= balance),
    CONSTRAINT credit_balances_month_begins_on_the_first CHECK (extract(day FROM month) = 1)
);

-- The ledger: rows are added, never changed. An operation enters it once.
CREATE TABLE credit_entries (
    user_id text NOT NULL,
    entry_number integer NOT NULL,
    operation_id text NOT NULL,
    kind text NOT NULL,
    amount integer NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    balance_after integer NOT NULL,
    CONSTRAINT credit_entries_once PRIMARY KEY (user_id, entry_number),
    CONSTRAINT credit_entries_one_per_operation UNIQUE (user_id, operation_id),
    CONSTRAINT credit_entries_kind_known CHECK (
        kind IN ('grant', 'hold_committed', 'refund', 'expiry', 'adjustment')
    ),
    CONSTRAINT credit_entries_amount_not_zero CHECK (amount <> 0),
    CONSTRAINT credit_entries_sign_fits_kind CHECK (
        (amount > 0) = (kind IN ('grant', 'refund'))
    ),
    CONSTRAINT credit_entries_only_grants_expire CHECK (expires_at IS NULL OR kind IN ('grant', 'refund')),
    CONSTRAINT credit_entries_balance_not_negative CHECK (balance_after >= 0)
);

-- What is left, neither held nor spent, of each entry that brought credits in.
CREATE TABLE credit_grants (
    user_id text NOT NULL,
    entry_number integer NOT NULL,
    remaining integer NOT NULL,
    expires_at timestamptz,
    CONSTRAINT credit_grants_once PRIMARY KEY (user_id, entry_number),
    CONSTRAINT credit_grants_in_the_ledger FOREIGN KEY (user_id, entry_number)
        REFERENCES credit_entries (user_id, entry_number),
    CONSTRAINT credit_grants_remaining_not_negative CHECK (remaining >= 0)
);

CREATE INDEX credit_grants_spendable ON credit_grants (user_id, expires_at) WHERE remaining > 0;

-- Which grants the credits of a hold were taken from, so that a release gives them back to the same ones.
CREATE TABLE hold_credits (
    user_id text NOT NULL,
    hold_id uuid NOT NULL,
    entry_number integer NOT NULL,
    amount integer NOT NULL,
    CONSTRAINT hold_credits_once PRIMARY KEY (user_id, hold_id, entry_number),
    CONSTRAINT hold_credits_of_a_hold FOREIGN KEY (user_id, hold_id) REFERENCES holds (user_id, hold_id),
    CONSTRAINT hold_credits_from_a_grant FOREIGN KEY (user_id, entry_number)
        REFERENCES credit_grants (user_id, entry_number),
    CONSTRAINT hold_credits_amount_positive CHECK (amount > 0)
);
