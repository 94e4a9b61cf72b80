-- A catalog (not keyed by the learner). An absent daily_test_limit means no limit.
CREATE TABLE plans (
    plan_id text NOT NULL,
    name text NOT NULL,
    daily_test_limit integer,
    monthly_credits integer NOT NULL,
    features text[] NOT NULL DEFAULT '{}',
    is_default boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT plans_once PRIMARY KEY (plan_id),
    CONSTRAINT plans_daily_test_limit_not_negative CHECK (daily_test_limit >= 0),
    CONSTRAINT plans_monthly_credits_not_negative CHECK (monthly_credits >= 0)
);

-- What a new account is subscribed to, and whose limits hold for whoever has no active subscription.
CREATE UNIQUE INDEX plans_one_default ON plans (is_default) WHERE is_default;

INSERT INTO plans (plan_id, name, daily_test_limit, monthly_credits, is_default)
VALUES ('free', 'Free', 3, 0, true),
       ('plus', 'Plus', 20, 0, false),
       ('unlimited', 'Unlimited', NULL, 0, false);

-- The status is what was set last; past period_end it counts as expired without anyone writing so.
CREATE TABLE subscriptions (
    user_id text NOT NULL,
    plan_id text NOT NULL,
    status text NOT NULL,
    period_end timestamptz,
    changes integer NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscriptions_one_per_account PRIMARY KEY (user_id),
    CONSTRAINT subscriptions_of_an_account FOREIGN KEY (user_id) REFERENCES accounts (user_id),
    CONSTRAINT subscriptions_to_a_plan FOREIGN KEY (plan_id) REFERENCES plans (plan_id),
    CONSTRAINT subscriptions_status_known CHECK (status IN ('trialing', 'active', 'past_due', 'canceled'))
);

-- What became of a subscription, numbered per account. An expiry is recorded with the next change after it.
CREATE TABLE subscription_changes (
    user_id text NOT NULL,
    change_number integer NOT NULL,
    from_plan_id text,
    to_plan_id text NOT NULL,
    from_status text,
    to_status text NOT NULL,
    period_end timestamptz,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT subscription_changes_once PRIMARY KEY (user_id, change_number),
    CONSTRAINT subscription_changes_first_comes_from_nothing CHECK (
        (change_number = 1) = (from_status IS NULL AND from_plan_id IS NULL)
    )
);
