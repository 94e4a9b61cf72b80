-- Up to where the janitor has looked at the open holds of a method. It only moves forward.
CREATE TABLE hold_watermarks (
    method text NOT NULL,
    placed_at timestamptz NOT NULL,
    user_id text NOT NULL,
    hold_id uuid NOT NULL,
    CONSTRAINT hold_watermarks_once PRIMARY KEY (method),
    CONSTRAINT hold_watermarks_time_in_range CHECK (placed_at >= '2000-01-01' AND placed_at < '2100-01-01')
);

-- Holds behind the watermark that could not be resolved at the first look. The janitor looks at them again.
CREATE TABLE postponed_holds (
    user_id text NOT NULL,
    hold_id uuid NOT NULL,
    method text NOT NULL,
    key text NOT NULL,
    placed_at timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 1,
    look_again_at timestamptz NOT NULL,
    CONSTRAINT postponed_holds_once PRIMARY KEY (user_id, hold_id),
    CONSTRAINT postponed_holds_tries_positive CHECK (tries > 0),
    CONSTRAINT postponed_holds_times_in_range CHECK (
        placed_at >= '2000-01-01' AND placed_at < '2100-01-01'
        AND look_again_at >= '2000-01-01' AND look_again_at < '2100-01-01'
    )
);

CREATE INDEX postponed_holds_due ON postponed_holds (method, look_again_at);
