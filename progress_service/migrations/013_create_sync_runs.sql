-- Runs that bring progress and licenses into step, and what each of them changes.

-- A catalog of orders: one row for each run. `reached` is the key up to which both stores are compared; empty texts
-- come before all keys. A replica works on a run while it has its lease. `slot` is the time for which the schedule
-- wanted the run: its unique index decides which replica begins it.
CREATE TABLE sync_runs (
    run_id uuid NOT NULL,
    direction text NOT NULL,
    dry_run boolean NOT NULL,
    specialization text NOT NULL,
    user_id text NOT NULL,
    ordered_by text NOT NULL,
    age_seconds_min double precision NOT NULL,
    slot timestamptz,
    state text NOT NULL,
    reached_specialization text NOT NULL DEFAULT '',
    reached_user_id text NOT NULL DEFAULT '',
    compared_all boolean NOT NULL DEFAULT false,
    compared bigint NOT NULL DEFAULT 0,
    level_mismatches bigint NOT NULL DEFAULT 0,
    progress_without_license bigint NOT NULL DEFAULT 0,
    license_without_progress bigint NOT NULL DEFAULT 0,
    planned bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0,
    unchanged bigint NOT NULL DEFAULT 0,
    needs_decision bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    lease integer NOT NULL DEFAULT 0,
    leased_until timestamptz,
    worked_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT sync_runs_once PRIMARY KEY (run_id),
    CONSTRAINT sync_runs_one_per_slot UNIQUE (slot),
    CONSTRAINT sync_runs_direction_is_known CHECK (
        direction IN ('progress_to_license', 'license_to_progress', 'both_ways')
    ),
    CONSTRAINT sync_runs_texts_within_bounds CHECK (
        length(specialization) <= 63 AND length(user_id) <= 128 AND length(ordered_by) <= 128
        AND length(reached_specialization) <= 63 AND length(reached_user_id) <= 128
    ),
    CONSTRAINT sync_runs_age_within_bounds CHECK (age_seconds_min BETWEEN 0 AND 86400),
    CONSTRAINT sync_runs_finished_once_compared CHECK (
        state IN ('running', 'finished') AND (state = 'finished') = (finished_at IS NOT NULL)
        AND (state = 'running' OR compared_all)
    ),
    CONSTRAINT sync_runs_counts_not_negative CHECK (
        compared >= 0 AND level_mismatches >= 0 AND progress_without_license >= 0 AND license_without_progress >= 0
        AND planned >= 0 AND applied >= 0 AND unchanged >= 0 AND needs_decision >= 0 AND failed >= 0
    )
);

CREATE INDEX sync_runs_running ON sync_runs (worked_at) WHERE state = 'running';
CREATE INDEX sync_runs_by_start ON sync_runs (started_at, run_id);

-- One row for each disagreement that a run has found. It is written before the change is carried out, so that a run
-- that was interrupted neither forgets a change nor carries it out unreported. A level of 0 is none.
CREATE TABLE sync_changes (
    user_id text NOT NULL,
    run_id uuid NOT NULL,
    specialization text NOT NULL,
    kind text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    progress_before integer NOT NULL,
    license_before integer NOT NULL,
    progress_after integer NOT NULL,
    license_after integer NOT NULL,
    license_epoch integer NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT sync_changes_once PRIMARY KEY (user_id, run_id, specialization),
    CONSTRAINT sync_changes_kind_is_known CHECK (
        kind IN ('level_mismatch', 'progress_without_license', 'license_without_progress')
    ),
    CONSTRAINT sync_changes_action_is_known CHECK (action IN ('license_follows', 'progress_follows', 'none')),
    CONSTRAINT sync_changes_outcome_is_known CHECK (
        outcome IN ('planned', 'applied', 'unchanged', 'needs_decision', 'failed')
    ),
    CONSTRAINT sync_changes_levels_within_bounds CHECK (
        progress_before BETWEEN 0 AND 10000 AND license_before BETWEEN 0 AND 10000
        AND progress_after BETWEEN 0 AND 10000 AND license_after BETWEEN 0 AND 10000 AND license_epoch >= 0
    ),
    CONSTRAINT sync_changes_texts_within_bounds CHECK (
        length(user_id) BETWEEN 1 AND 128 AND length(specialization) BETWEEN 1 AND 63 AND length(reason) <= 500
    )
);

CREATE INDEX sync_changes_of_a_run ON sync_changes (run_id, specialization COLLATE "C", user_id COLLATE "C");
CREATE INDEX sync_changes_planned ON sync_changes (run_id) WHERE outcome = 'planned';
