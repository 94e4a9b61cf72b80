-- Achievements: the rules are rows, and a learner earns each once.

-- A catalog table: an achievement is earned when the learner's measure reaches the threshold.
CREATE TABLE achievement_rules (
    achievement text NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    measure text NOT NULL,
    threshold integer NOT NULL,
    CONSTRAINT achievement_rules_once PRIMARY KEY (achievement),
    CONSTRAINT achievement_rules_texts_within_bounds CHECK (
        length(achievement) BETWEEN 1 AND 63 AND length(title) BETWEEN 1 AND 200
        AND length(description) BETWEEN 1 AND 500
    ),
    CONSTRAINT achievement_rules_measure_is_known CHECK (
        measure IN ('completed_lessons', 'completed_sessions', 'streak_days', 'level', 'top_levels')
    ),
    CONSTRAINT achievement_rules_threshold_within_bounds CHECK (threshold BETWEEN 1 AND 1000000)
);

CREATE TABLE learner_achievements (
    user_id text NOT NULL,
    achievement text NOT NULL,
    earned_at timestamptz NOT NULL,
    CONSTRAINT learner_achievements_once PRIMARY KEY (user_id, achievement)
);

INSERT INTO achievement_rules (achievement, title, description, measure, threshold)
VALUES ('first-lesson', 'First lesson', 'Completed a lesson', 'completed_lessons', 1),
       ('first-session', 'First session', 'Completed a session', 'completed_sessions', 1),
       ('streak-3', 'Three days', 'Active on 3 days in a row', 'streak_days', 3),
       ('streak-7', 'A week', 'Active on 7 days in a row', 'streak_days', 7),
       ('streak-30', 'A month', 'Active on 30 days in a row', 'streak_days', 30),
       ('first-level-up', 'Level up', 'Reached level 2 of a specialization', 'level', 2),
       ('top-level', 'At the top', 'Reached the highest level of a specialization', 'top_levels', 1);
