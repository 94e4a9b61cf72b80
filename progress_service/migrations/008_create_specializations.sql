-- Specializations and their levels. The rows are the truth: every maximum is a query on them.

-- A catalog table. `version` grows with each change, so that what was decided by an older catalog can be found.
CREATE TABLE specializations (
    specialization text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL,
    CONSTRAINT specializations_once PRIMARY KEY (specialization),
    CONSTRAINT specializations_texts_within_bounds CHECK (
        length(specialization) BETWEEN 1 AND 63 AND length(name) BETWEEN 1 AND 200
    ),
    CONSTRAINT specializations_version_positive CHECK (version > 0)
);

-- A catalog table. The first level needs no XP, so every learner who has begun has a level.
CREATE TABLE specialization_levels (
    specialization text NOT NULL,
    level integer NOT NULL,
    name text NOT NULL,
    xp_required integer NOT NULL,
    CONSTRAINT specialization_levels_once PRIMARY KEY (specialization, level),
    CONSTRAINT specialization_levels_of_a_specialization
        FOREIGN KEY (specialization) REFERENCES specializations (specialization),
    CONSTRAINT specialization_levels_level_within_bounds CHECK (level BETWEEN 1 AND 1000),
    CONSTRAINT specialization_levels_name_within_bounds CHECK (length(name) BETWEEN 1 AND 200),
    CONSTRAINT specialization_levels_xp_required_within_bounds CHECK (
        xp_required BETWEEN 0 AND 1000000000 AND (level > 1 OR xp_required = 0)
    )
);

-- A learner's XP and level in a specialization, since the reset that began `epoch`. Level 0: the catalog does not
-- have the specialization yet. `granted_level` is what an instructor has granted. `catalog_version` is that of
-- the catalog by which the level was decided. `version` grows with each change of the row.
CREATE TABLE specialization_progress (
    user_id text NOT NULL,
    specialization text NOT NULL,
    xp bigint NOT NULL,
    level integer NOT NULL,
    max_level integer NOT NULL,
    granted_level integer NOT NULL,
    epoch integer NOT NULL,
    catalog_version integer NOT NULL,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT specialization_progress_once PRIMARY KEY (user_id, specialization),
    CONSTRAINT specialization_progress_ids_within_bounds CHECK (
        length(user_id) BETWEEN 1 AND 128 AND length(specialization) BETWEEN 1 AND 63
    ),
    CONSTRAINT specialization_progress_xp_not_negative CHECK (xp >= 0),
    CONSTRAINT specialization_progress_level_within_catalog CHECK (level BETWEEN 0 AND max_level),
    CONSTRAINT specialization_progress_granted_level_holds CHECK (granted_level BETWEEN 0 AND level),
    CONSTRAINT specialization_progress_epoch_not_negative CHECK (epoch >= 0),
    CONSTRAINT specialization_progress_versions_not_negative CHECK (catalog_version >= 0 AND version > 0)
) WITH (fillfactor = 70);

-- For the search of rows that an older catalog decided.
CREATE INDEX specialization_progress_by_catalog ON specialization_progress (specialization, catalog_version);
