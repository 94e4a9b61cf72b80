-- Resets of progress. Each begins a new epoch of the learner; nothing else lowers anything.
-- `scope` is 'all', 'specialization' or 'course'; `name` says which one, and is empty for 'all'.
CREATE TABLE progress_resets (
    user_id text NOT NULL,
    epoch integer NOT NULL,
    scope text NOT NULL,
    name text NOT NULL,
    ordered_by text NOT NULL,
    reason text NOT NULL,
    reset_at timestamptz NOT NULL,
    CONSTRAINT progress_resets_once PRIMARY KEY (user_id, epoch),
    CONSTRAINT progress_resets_epoch_within_bounds CHECK (epoch BETWEEN 1 AND 1000000000),
    CONSTRAINT progress_resets_scope_is_named CHECK (
        scope IN ('all', 'specialization', 'course') AND (scope = 'all') = (name = '')
    ),
    CONSTRAINT progress_resets_texts_within_bounds CHECK (
        length(user_id) BETWEEN 1 AND 128 AND length(name) <= 128 AND length(ordered_by) BETWEEN 1 AND 128
        AND length(reason) BETWEEN 1 AND 500
    )
);

-- `epoch`: the number of the learner's resets, and so the epoch of the latest one.
-- The other two count what lessons bring, beside the counters of sessions.
ALTER TABLE learner_statistics
    ADD COLUMN epoch integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS enrolled bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS completed_lessons bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT learner_statistics_learning_not_negative CHECK (
        epoch >= 0 AND enrolled >= 0 AND completed_lessons >= 0
    ) NOT VALID;

-- The epoch of the entry's specialization in which it was earned.
ALTER TABLE xp_entries
    ADD COLUMN epoch integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT xp_entries_epoch_not_negative CHECK (epoch >= 0) NOT VALID;
