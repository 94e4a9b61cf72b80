-- What the service's own runs of its checks found. One row for each check; a run that was cut off goes on where it
-- was, at any replica.
CREATE TABLE check_runs (
    check_id text NOT NULL,
    lease integer NOT NULL DEFAULT 0,
    leased_until timestamptz,
    -- The run under way; absent between runs.
    began_at timestamptz,
    reached jsonb,
    walked bigint NOT NULL DEFAULT 0,
    findings integer NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    problem text NOT NULL DEFAULT '',
    -- The last run that came to its end.
    last_began_at timestamptz,
    last_ended_at timestamptz,
    last_walked bigint NOT NULL DEFAULT 0,
    last_findings integer NOT NULL DEFAULT 0,
    last_seconds double precision NOT NULL DEFAULT 0,
    last_problem text NOT NULL DEFAULT '',
    CONSTRAINT check_runs_once PRIMARY KEY (check_id),
    CONSTRAINT check_runs_bounded CHECK (
        char_length(check_id) BETWEEN 1 AND 100 AND lease >= 0 AND walked >= 0 AND findings >= 0 AND seconds >= 0
        AND octet_length(reached::text) <= 8192 AND char_length(problem) <= 500 AND char_length(last_problem) <= 500
        AND last_walked >= 0 AND last_findings >= 0 AND last_seconds >= 0
    )
);

-- A repair changes only the rows of its plan, and only those that are as the plan shows them.
CREATE TABLE repair_plans (
    plan_id uuid NOT NULL,
    check_id text NOT NULL,
    repair_id text NOT NULL,
    user_id text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL,
    hash text NOT NULL,
    is_partial boolean NOT NULL,
    left_out text [] NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT repair_plans_once PRIMARY KEY (plan_id),
    CONSTRAINT repair_plans_state_known CHECK (state IN ('planned', 'applying', 'applied', 'undoing', 'undone')),
    CONSTRAINT repair_plans_bounded CHECK (
        char_length(check_id) <= 100 AND char_length(repair_id) <= 100 AND char_length(user_id) <= 255
        AND char_length(reason) BETWEEN 1 AND 500 AND char_length(created_by) <= 255 AND char_length(hash) = 64
        AND cardinality(left_out) <= 100 AND octet_length(left_out::text) <= 65536
        AND expires_at > created_at
    )
);
CREATE INDEX repair_plans_newest ON repair_plans (created_at, plan_id);

CREATE TABLE repair_rows (
    plan_id uuid NOT NULL REFERENCES repair_plans (plan_id),
    ordinal integer NOT NULL,
    unit integer NOT NULL,
    repair_id text NOT NULL,
    user_id text NOT NULL,
    table_name text NOT NULL,
    before jsonb,
    after jsonb,
    outcome text NOT NULL DEFAULT 'waiting',
    detail text NOT NULL DEFAULT '',
    CONSTRAINT repair_rows_once PRIMARY KEY (plan_id, ordinal),
    CONSTRAINT repair_rows_outcome_known CHECK (
        outcome IN ('waiting', 'applied', 'skipped', 'failed', 'undone', 'kept')
    ),
    CONSTRAINT repair_rows_change_something CHECK (before IS DISTINCT FROM after),
    CONSTRAINT repair_rows_bounded CHECK (
        ordinal >= 0 AND unit >= 0 AND char_length(repair_id) <= 100 AND char_length(user_id) <= 255
        AND char_length(table_name) <= 63 AND char_length(detail) <= 500
        AND octet_length(before::text) <= 4194304 AND octet_length(after::text) <= 4194304
    )
);

-- Each row that a repair has changed: who, why, and how it was before and after. Written in the transaction of the
-- change, so that a row is in the journal exactly if it was changed.
CREATE TABLE repair_journal (
    plan_id uuid NOT NULL,
    ordinal integer NOT NULL,
    user_id text NOT NULL,
    table_name text NOT NULL,
    before jsonb,
    after jsonb,
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    undone_by text NOT NULL DEFAULT '',
    undone_at timestamptz,
    CONSTRAINT repair_journal_once PRIMARY KEY (plan_id, ordinal),
    CONSTRAINT repair_journal_bounded CHECK (
        char_length(user_id) <= 255 AND char_length(table_name) <= 63 AND char_length(reason) <= 500
        AND char_length(changed_by) <= 255 AND char_length(undone_by) <= 255
    )
);
CREATE INDEX repair_journal_by_age ON repair_journal (changed_at);
