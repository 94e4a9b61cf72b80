-- A transaction of its own: to validate reads every row, and must not hold the lock that adding took.
ALTER TABLE learner_statistics VALIDATE CONSTRAINT learner_statistics_learning_not_negative;
ALTER TABLE xp_entries VALIDATE CONSTRAINT xp_entries_epoch_not_negative;
